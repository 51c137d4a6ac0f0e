// What docs/peal.d.ts allows and what it refuses. Compiled, never run.
import type { Actions, ClientFrame, ErrorFrame, Publication, ServerFrame } from "../../docs/peal";

declare const socket: WebSocket;
declare function show(...values: unknown[]): void;
declare function never(value: never): void;

function send(frame: ClientFrame): void {
  socket.send(JSON.stringify(frame));
}

// A request is answered by what its action is replied.
type Fields<Name extends keyof Actions> = Omit<Actions[Name]["frame"], "action" | "id">;
declare function ask<Name extends keyof Actions>(action: Name, fields: Fields<Name>): Promise<Actions[Name]["data"]>;

// What a client may send.
send({ action: "ping" });
send({ action: "ping", id: null });
send({ action: "whoami", id: "me" });
send({ action: "sendMessage", targetUserId: "u_456", text: "hi" });
send({ action: "sendMessage", id: 2, targetConnectionId: "L0SM9cOFvHcCIhw=", data: { x: 1 } });
send({ action: "sendMessage", targetUserId: "u_456", targetConnectionId: null, text: "hi", data: null });
send({ action: "broadcastAll" });
send({ action: "publish", channel: "chat:lobby", data: null, exclude: true });
send({ action: "subscribe", channel: "chat:lobby", recover: { epoch: "QPE6b7_G", offset: 41 } });
send({ action: "history", channel: "chat:lobby", limit: 10, reverse: true });
send({ action: "authenticate", token: "eyJhbGciOi" });

// @ts-expect-error: there is no such action
send({ action: "shout" });
// @ts-expect-error: to nobody
send({ action: "sendMessage", text: "hi" });
// @ts-expect-error: to two
send({ action: "sendMessage", targetUserId: "u_456", targetConnectionId: "L0SM9cOFvHcCIhw=", text: "hi" });
// @ts-expect-error: nothing to say
send({ action: "sendMessage", targetUserId: "u_456" });
// @ts-expect-error: text is a string
send({ action: "sendMessage", targetUserId: "u_456", text: 7 });
// @ts-expect-error: data must be there
send({ action: "publish", channel: "chat:lobby" });
// @ts-expect-error: a function is no JSON
send({ action: "publish", channel: "chat:lobby", data: () => 1 });
// @ts-expect-error: a position has an epoch
send({ action: "subscribe", channel: "chat:lobby", recover: { offset: 41 } });
// @ts-expect-error: a token must be there
send({ action: "authenticate" });
// @ts-expect-error: an id is a string or a number
send({ action: "ping", id: true });

// What a client receives.
socket.onmessage = ({ data }: MessageEvent<string>) => {
  const frame = JSON.parse(data) as ServerFrame;
  switch (frame.type) {
    case "message":
      return show(frame.from?.userId ?? "server", frame.text, frame.data);
    case "broadcast":
      return show(frame.note, frame.time);
    case "publication":
      return take(frame.offset, frame.data);
    case "recovery":
      return frame.publications.forEach(({ offset, data }) => take(offset, data));
    case "join":
    case "leave":
      return show(frame.user, frame.channel);
    case "unsubscribed":
      return show(frame.channel);
    case "goodbye":
      return show(frame.code, frame.reason);
    case "error":
      return explain(frame);
    case "reply":
      return show(frame.id, frame.data);
    case undefined:
      return show(frame.message, frame.requestId);
    default:
      // Compiles only as long as every kind of frame has been named above.
      return never(frame);
  }
};

function take(offset: number | null, data: Publication["data"]): void {
  show(offset, data);
}

function explain({ error }: ErrorFrame): void {
  if (error.code === "rate_limited" && error.retryable) show(error.message);
  // @ts-expect-error: there is no such code
  if (error.code === "teapot") show(error.message);
}

// What an action is replied.
const me = await ask("whoami", {});
show(me.channels.length, me.expiresAt === null);
const joined = await ask("subscribe", { channel: "chat:lobby" });
if (joined.recovered) joined.publications?.forEach(({ offset, from }) => show(offset.toFixed(), from?.connectionId));
const published = await ask("publish", { channel: "chat:lobby", data: [1] });
show("queued" in published ? published.queued : published.sent + published.gone + published.failed);
const here = await ask("presence", { channel: "chat:lobby" });
show(here.members?.[0]?.attributes["room"]);

// @ts-expect-error: a reply to whoami has no such member
show(me.offset);
// @ts-expect-error: the list may be too long to be there
show(here.members[0]);
// @ts-expect-error: offsets are null where there is no history
show(joined.offset.toFixed());
