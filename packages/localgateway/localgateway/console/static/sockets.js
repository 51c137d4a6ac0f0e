// The WebSockets that this page has opened, and every frame that goes over them, as records.

const HUES = 6;
const MAX_UNANSWERED = 100;
let count = 0;

/**
 * One WebSocket. A record of it has a `kind`, which is `in`, `out` or `note`, a `text`, and times: how long a frame
 * waited for its answer is the `answerMs` of the one that was sent and the `afterMs` of the one that came.
 */
export class Socket {
  /**
   * Dial.
   *
   * `options` is what `dialled` returns; `tell` is called with each new record, `change` when anything else is new.
   */
  constructor({ url, protocols, firstFrame }, tell, change) {
    this.number = ++count;
    this.hue = (this.number - 1) % HUES;
    this.state = "connecting";
    this.unanswered = [];
    Object.assign(this, { tell, change });
    const started = performance.now();
    // Throws if the URL or a sub-protocol is not valid.
    this.socket = new WebSocket(url, protocols);
    this.socket.onopen = () => {
      this.state = "open";
      const agreed = this.socket.protocol ? `, sub-protocol ${this.socket.protocol}` : "";
      this.record("note", `Open after ${Math.round(performance.now() - started)} ms${agreed}`);
      if (firstFrame) this.send(firstFrame.text, firstFrame.shown);
      this.change();
    };
    this.socket.onmessage = ({ data }) => this.receive(data);
    this.socket.onclose = ({ code, reason }) => {
      const wasOpen = this.state === "open";
      this.state = "closed";
      this.record(
        "note",
        wasOpen
          ? `Closed with ${code}${reason ? ` ${reason}` : ""}`
          : "Refused, or nobody there: $connect in Invocations may tell",
      );
      this.change();
    };
  }

  /** Send a text; `shown` is what is listed in its place, where it holds a secret. */
  send(text, shown = text) {
    this.socket.send(text);
    this.unanswered.push(this.record("out", shown));
    this.unanswered.splice(0, this.unanswered.length - MAX_UNANSWERED);
  }

  close() {
    this.socket.close(1000);
  }

  receive(data) {
    const record = this.record("in", String(data));
    // The first frame that comes is the answer to all that were sent before it: nothing else is known of frames here.
    for (const sent of this.unanswered.splice(0)) {
      sent.answerMs = record.at - sent.at;
      record.afterMs = sent.answerMs;
      sent.answered?.();
    }
  }

  record(kind, text) {
    const record = { kind, text, socket: this, at: performance.now(), when: Date.now(), size: new Blob([text]).size };
    this.tell(record);
    return record;
  }
}

/**
 * What to dial with, from what the form says.
 *
 * `place` is where the token goes: `query` under the name `shape`, `protocol` behind the prefix `shape`, or `frame`,
 * where `{token}` in `shape` stands for it.
 */
export function dialled({ url, query, protocols, token, place, shape }) {
  const target = new URL(url);
  for (const [name, value] of new URLSearchParams(query)) target.searchParams.append(name, value);
  const offered = protocols
    .split(",")
    .map((name) => name.trim())
    .filter(Boolean);
  if (token && place === "query") target.searchParams.append(shape || "token", token);
  if (token && place === "protocol") offered.push(shape + token);
  const text = shape.replaceAll("{token}", JSON.stringify(token).slice(1, -1));
  return {
    url: target.href,
    protocols: offered,
    firstFrame: token && place === "frame" ? { text, shown: shape } : null,
  };
}
