// All connections of the gateway, from this page or elsewhere, and what can be done to each.

import { announce } from "./announce.js";
import { byId, element, say } from "./dom.js";
import { age, size } from "./format.js";
import * as gateway from "./gateway.js";

const body = byId("connections-rows");
const rows = new Map();
let isShown = false;
let lookUp = () => {};

/** Begin; `invocationsOf` shows what has run for a connection. */
export function start(invocationsOf) {
  lookUp = invocationsOf;
  byId("connections-filter").addEventListener("input", draw);
  setInterval(() => isShown && !document.hidden && tick(), 1_000);
}

/** Show what is known now, if this is looked at. */
export function show(isLookedAt = isShown) {
  isShown = isLookedAt;
  say(document.querySelector("#tab-connections .count"), gateway.known.total ? String(gateway.known.total) : "");
  if (isShown) draw();
}

/** Show one connection alone. */
export function find(id) {
  byId("connections-filter").value = id;
  draw();
}

function draw() {
  const { connections, total, about } = gateway.known;
  const filter = byId("connections-filter").value.toLowerCase();
  for (const [id, row] of rows) {
    if (connections.has(id)) continue;
    row.line.remove();
    row.details?.remove();
    rows.delete(id);
  }
  for (const one of connections.values()) {
    const row = rows.get(one.id) ?? add(one);
    row.one = one;
    fill(row);
    const isWanted = [one.id, one.sourceIp, one.userAgent ?? ""].some((text) => text.toLowerCase().includes(filter));
    row.line.hidden = !isWanted;
    if (row.details) row.details.hidden = !isWanted;
  }
  tick();
  byId("connections-empty").hidden = rows.size > 0;
  const isCut = about && total > about.shownConnections;
  say(
    byId("connections-said"),
    isCut ? `the newest ${rows.size.toLocaleString("en")} of ${total.toLocaleString("en")}` : "",
  );
}

function add(one) {
  const cells = ["id", "age", "idle", "from", "to", "client"].map((name) =>
    element("td", { className: { id: "code", client: "wide" }[name] ?? "number" }),
  );
  const open = element("button", { type: "button", className: "bare code", aria: { expanded: "false" } }, one.id);
  cells[0].append(open);
  const row = { one, cells, open, line: element("tr", { data: { id: one.id } }, ...cells), details: null };
  open.addEventListener("click", () => toggle(row));
  rows.set(one.id, row);
  // The newest is first; one that is older than those shown is inserted where it belongs.
  let next = body.firstElementChild;
  while (next && !(rows.get(next.dataset.id)?.one.connectedAt <= one.connectedAt)) next = next.nextElementSibling;
  body.insertBefore(row.line, next);
  say(cells[5], [one.sourceIp, one.userAgent].filter(Boolean).join(" "));
  cells[5].title = cells[5].textContent;
  return row;
}

function fill({ one, cells }) {
  const traffic = ({ messages, bytes }) => `${messages.toLocaleString("en")} · ${size(bytes)}`;
  say(cells[3], traffic(one.received));
  say(cells[4], traffic(one.sent));
}

function tick() {
  const now = gateway.now();
  for (const { one, cells } of rows.values()) {
    say(cells[1], age(now - Date.parse(one.connectedAt)));
    say(cells[2], age(now - Date.parse(one.lastActiveAt)));
  }
}

// What can be done to one.

function toggle(row) {
  const isOpen = !row.details;
  row.open.setAttribute("aria-expanded", String(isOpen));
  row.line.classList.toggle("open", isOpen);
  if (isOpen) {
    row.details = toDetails(row.one);
    row.line.after(row.details);
  } else {
    row.details.remove();
    row.details = null;
  }
}

function toDetails({ id, connectedAt, userAgent, sourceIp }) {
  const text = element("textarea", {
    className: "code",
    rows: 2,
    spellcheck: false,
    aria: { label: `Message to ${id}` },
    placeholder: "A message to this connection",
  });
  const code = element("input", {
    className: "code short",
    value: "1000",
    inputMode: "numeric",
    aria: { label: "Close code" },
  });
  const reason = element("input", { placeholder: "reason", aria: { label: "Close reason" } });
  const ran = element("button", { type: "button", className: "bare link" }, "What has run for it");
  ran.addEventListener("click", () => lookUp(id));
  const facts = element(
    "p",
    { className: "quiet" },
    `${sourceIp} · since ${connectedAt} · ${userAgent ?? "no User-Agent"} · `,
    ran,
  );
  const act = (label, title, work) => {
    const button = element("button", { type: "button", title }, label);
    button.addEventListener("click", async () => tell(`${label} ${id}`, await work()));
    return button;
  };
  const post = act("Post", "POST @connections: as your functions send", () => gateway.post(id, text.value));
  const kick = act("Kick", "DELETE @connections: as your functions close", () => gateway.kick(id));
  const close = act("Close", "With this code; 1006 cuts it off", () => gateway.close(id, code.value, reason.value));
  const lose = act("Lose $disconnect", "Cut it off, and let no $disconnect follow", async () => {
    const armed = await gateway.arm({ fault: "lose-disconnect", connectionId: id });
    return armed.isOk ? gateway.close(id, "1006", "") : armed;
  });
  return element(
    "tr",
    { className: "details" },
    element(
      "td",
      { colSpan: 6 },
      facts,
      element("div", { className: "line" }, text, post),
      element(
        "div",
        { className: "line wrap" },
        code,
        reason,
        close,
        element("span", { className: "grow" }),
        kick,
        lose,
      ),
    ),
  );
}

function tell(deed, answer) {
  const result = byId("connections-result");
  result.dataset.is = answer.isOk ? "ok" : "bad";
  say(result, `${deed}: ${gateway.summary(answer)}`);
  announce("connections", `${deed}: ${gateway.summary(answer)}.`);
}
