// The gateway: what it tells over its feed, and the calls that change something there.

const FEED = "/_localgateway/feed";

/** What is known of the gateway. `about` is null until it has been heard of first. */
export const known = { about: null, connections: new Map(), total: 0, running: [], faults: [], aheadMs: 0 };

/** The time of day at the gateway, in epoch milliseconds. */
export const now = () => Date.now() + known.aheadMs;

/**
 * Follow the feed while the page is visible; when it is shown again, it continues where it stopped.
 *
 * `hear` is called after each event with its changes, which say too whether it is another gateway now; `lose` when it
 * is out of reach.
 */
export function follow(hear, lose) {
  let source = null;
  // An EventSource remembers its position only while it lives.
  let position = "";

  function take(event) {
    const changes = JSON.parse(event.data);
    position = event.lastEventId;
    known.aheadMs = changes.now - Date.now();
    let isAnother = false;
    if (changes.gateway) {
      isAnother = known.about !== null && known.about.instance !== changes.gateway.instance;
      known.about = changes.gateway;
      known.connections.clear();
    }
    for (const id of changes.closed ?? []) known.connections.delete(id);
    for (const one of changes.connections ?? []) known.connections.set(one.id, one);
    for (const name of ["total", "running", "faults"]) if (name in changes) known[name] = changes[name];
    hear({ ...changes, isAnother });
  }

  function open() {
    source = new EventSource(`${FEED}?after=${position}`);
    source.onmessage = take;
    source.onerror = () => {
      lose();
      // Refused, not cut: the browser does not try again by itself.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => document.hidden || open(), 3_000);
    };
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) source?.close();
    else open();
  });
  open();
}

async function call(method, path, body, headers = {}) {
  try {
    const response = await fetch(path, { method, body, headers });
    const text = await response.text();
    const type = response.headers.get("x-amzn-errortype");
    let said;
    try {
      said = JSON.parse(text);
    } catch {
      said = null;
    }
    const message = [type, said?.message].filter(Boolean).join(": ");
    return { isOk: response.ok, status: response.status, said, message };
  } catch {
    return { isOk: false, status: 0, said: null, message: "The gateway is out of reach." };
  }
}

/** An answer in a few words: `200`, `410 GoneException`. */
export const summary = ({ status, message }) => [status || "", message].filter(Boolean).join(" ");

// @connections takes signed requests, whose signature nobody verifies here.
const SIGNED = { Authorization: "AWS4-HMAC-SHA256 Credential=console" };
const managed = (method, id, body) =>
  call(method, `${known.about.path}/@connections/${encodeURIComponent(id)}`, body, SIGNED);

export const post = (id, text) => managed("POST", id, text);
export const kick = (id) => managed("DELETE", id);
export const close = (id, code, reason) =>
  call("DELETE", `/_localgateway/connections/${encodeURIComponent(id)}?${new URLSearchParams({ code, reason })}`);
export const arm = (fault) => call("POST", "/_localgateway/faults", JSON.stringify(fault));
export const disarm = (fault) => call("DELETE", "/_localgateway/faults", JSON.stringify(fault));
export const readRows = (table, after) =>
  call(
    "GET",
    `/_localgateway/tables/${encodeURIComponent(table)}${after ? `?after=${encodeURIComponent(after)}` : ""}`,
  );
