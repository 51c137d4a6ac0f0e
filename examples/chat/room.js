// A room on Peal: what was said, who is here, and what this page has not sent yet. It knows nothing of the document.
//
// What holds: whatever the network does, each message is shown once and in its place, and none is missing after the
// first that is loaded. The SDK reconnects and asks for what was missed; an offset tells one message from another.

import { Centrifuge } from "./node_modules/centrifuge/build/index.mjs"; // with a bundler: from "centrifuge"

const PAGE = 100;
const SECOND_TRY_MS = 1_000;
const TOO_LATE = "You were away for too long, or the room has begun anew. This is what it still has.";

/**
 * Enter a channel as a user. The view is notified: `state(name, reason)`, `message(publication)`, `waiting(outbox)`,
 * `here(users)`, `clear()`, `earlier(isThereMore)`, `note(text, offset)` (after that message), `refused(reason)`.
 */
export function enter(server, channel, user, view) {
  // Locally Peal trusts the claimed user. On AWS: new Centrifuge(server, { getToken }), see README.md.
  const centrifuge = new Centrifuge(`${server}?userId=${encodeURIComponent(user)}`);
  const room = centrifuge.newSubscription(channel);
  const said = new Set(); // the offsets that are shown
  let outbox = []; // {messageId, text}: written, and not published as far as one knows
  let isPosting = false;
  let isLoaded = false;
  let isLate = false;
  let epoch = "";
  let awaySince = null;
  let listed = [];
  let changes = new Map(); // user to isHere, since the list was asked for

  // What is said

  function take(publication) {
    drop(publication.tags?.messageId);
    if (said.has(publication.offset)) return; // after a crash on the server some come twice
    said.add(publication.offset);
    view.message(publication);
  }

  const top = () => Math.max(0, ...said);

  async function load(since) {
    const { publications } = await room.history({ limit: PAGE, reverse: true, since });
    publications.forEach(take);
    isLoaded = true;
    view.earlier(publications.length > 0 && Math.min(...said) > 1);
    if (isLate) view.note(TOO_LATE, top());
    isLate = false;
  }

  async function tellMissed(seconds, first) {
    const { offset: last } = await room.history({ limit: 0 });
    const missed = last === first ? `#${last}` : `#${first} to #${last}`;
    if (last >= first) view.note(`Away for ${seconds} s. You missed ${missed}, and here it is:`, first - 1);
  }

  room.on("publication", take);
  room.on("subscribing", () => (awaySince ??= Date.now()));
  room.on("subscribed", async ({ wasRecovering, recovered, streamPosition }) => {
    const seconds = Math.round((Date.now() - awaySince) / 1_000);
    const first = top() + 1;
    awaySince = null;
    epoch = streamPosition.epoch;
    if (!recovered) {
      // The first time; or what was missed is no longer kept: what this page has may have a gap, so it begins afresh.
      said.clear();
      view.clear();
      isLoaded = false;
      isLate = wasRecovering;
    }
    // What was missed comes by itself, after this event, as any publication does.
    await insist(isLoaded ? () => tellMissed(seconds, first) : () => load());
    await insist(look);
    post();
  });

  // What this page says: one after another, so that the order is that of writing

  async function post() {
    if (isPosting) return;
    isPosting = true;
    for (let isOver = true; isOver && outbox.length; ) {
      const [{ messageId, text }] = outbox;
      isOver = await insist(() => publish(messageId, text), `Not sent: “${text}”. `);
      if (isOver) drop(messageId);
    }
    isPosting = false;
  }

  async function publish(messageId, text) {
    // Named, it is published once, however often it is sent: the answer may get lost, the message not.
    const { data } = await centrifuge.rpc("publish", { channel, data: { text }, messageId });
    take({ offset: data.offset, data: { text }, info: { user }, tags: { messageId } });
  }

  function drop(messageId) {
    const rest = outbox.filter((each) => each.messageId !== messageId);
    if (rest.length === outbox.length) return;
    outbox = rest;
    view.waiting(outbox);
  }

  // Who is here: users, not connections. A disconnected user stays for 15 seconds, so a short interruption shows no change.

  async function look() {
    changes = new Map();
    const { data } = await centrifuge.rpc("presence", { channel });
    listed = (data.members ?? []).map((member) => member.userId ?? "someone"); // a crowd is counted, not listed
    tell();
  }

  function tell() {
    const here = new Set([user, ...listed]);
    changes.forEach((isHere, who) => (isHere ? here.add(who) : here.delete(who)));
    view.here([...here]);
  }

  function change(who, isHere) {
    changes.set(who, isHere);
    tell();
  }

  room.on("join", ({ info }) => change(info.user, true));
  room.on("leave", ({ info }) => change(info.user, false));

  // How the connection is

  function show(reason) {
    const isOver = centrifuge.state === "disconnected" || room.state === "unsubscribed";
    view.state(isOver ? "over" : room.state === "subscribed" ? "live" : "coming", reason);
  }

  /** Do something until it is done or refused; false if the connection is lost before. */
  async function insist(work, what = "") {
    while (room.state === "subscribed") {
      try {
        await work();
        return true;
      } catch (error) {
        if (!isPassing(error)) {
          view.refused(`${what}The server says: ${error.message}`);
          return true;
        }
        await new Promise((wake) => setTimeout(wake, SECOND_TRY_MS));
      }
    }
    return false;
  }

  for (const each of [centrifuge, room]) each.on("state", () => show());
  centrifuge.on("disconnected", ({ code, reason }) => show(code ? reason : undefined)); // 0 is our own disconnect()
  room.on("unsubscribed", ({ reason }) => show(reason));

  room.subscribe();
  centrifuge.connect();
  return {
    say(text) {
      outbox = [...outbox, { messageId: crypto.randomUUID(), text }];
      view.waiting(outbox);
      post();
    },
    earlier: () => insist(() => load({ epoch, offset: Math.min(...said) })),
    leave: () => centrifuge.disconnect(),
    comeBack() {
      room.subscribe();
      centrifuge.connect();
    },
  };
}

/** Tell whether trying again is of use; codes below 100 are the SDK's own, for a connection that was lost. */
function isPassing(error) {
  return error.code < 100 || error.temporary;
}
