// The page: shows a room and hands on what is typed. All that others have said is text here, never HTML.

import { enter } from "./room.js";

const STATES = {
  coming: { label: "Coming…", act: "leave", button: "Go offline" },
  lost: { label: "Offline, coming back by itself", act: "leave", button: "Go offline" },
  live: { label: "Live", act: "leave", button: "Go offline" },
  over: { label: "Offline", act: "comeBack", button: "Come back" },
};
const byId = (id) => document.getElementById(id);
const { server, channel } = document.body.dataset;
const user = new URLSearchParams(location.search).get("user");
let wasLive = false;
let act = "leave";

function element(tag, className, text = "") {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

/** Place a message's row by its offset; a reader who has scrolled to the end stays there. */
function place(row, offset) {
  const list = byId("said");
  row.dataset.offset = offset;
  let before = list.lastElementChild;
  while (before && Number(before.dataset.offset) > offset) before = before.previousElementSibling;
  keepEnd(() => list.insertBefore(row, before ? before.nextElementSibling : list.firstElementChild));
}

function keepEnd(change) {
  const scroll = byId("scroll");
  const isAtEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 40;
  change();
  if (isAtEnd) scroll.scrollTop = scroll.scrollHeight;
}

const view = {
  state(name, reason) {
    wasLive ||= name === "live";
    const shown = name === "coming" && wasLive ? "lost" : name;
    byId("room").dataset.state = shown;
    byId("state").textContent = reason ? `Sent away: ${reason}` : STATES[shown].label;
    byId("switch").textContent = STATES[shown].button;
    act = STATES[shown].act;
  },
  message({ offset, data, info }) {
    const author = info ? info.user || "someone" : "server";
    const row = element("li", author === user ? "message mine" : "message");
    const text = typeof data?.text === "string" ? data.text : JSON.stringify(data);
    row.append(element("b", "author", author), element("p", "text", text), element("small", "offset", `#${offset}`));
    place(row, offset);
  },
  note(text, offset) {
    place(element("li", "note", text), offset);
  },
  refused(reason) {
    place(element("li", "note refused", reason), Number(byId("said").lastElementChild?.dataset.offset ?? 0));
  },
  waiting(outbox) {
    const rows = outbox.map(({ text }) => {
      const row = element("li", "message mine");
      row.append(element("p", "text", text), element("small", "offset", "waiting"));
      return row;
    });
    keepEnd(() => byId("outbox").replaceChildren(...rows));
  },
  here(users) {
    const names = users.sort().map((name) => element("li", "", name === user ? `${name} (you)` : name));
    byId("here").replaceChildren(...names);
  },
  clear() {
    byId("said").replaceChildren();
  },
  earlier(isThereMore) {
    byId("earlier").hidden = !isThereMore;
  },
};

if (user) {
  const room = enter(server, channel, user, view);
  byId("room").hidden = false;
  byId("text").focus();
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    room.say(byId("text").value);
    byId("composer").reset();
    byId("scroll").scrollTop = byId("scroll").scrollHeight;
  });
  byId("switch").addEventListener("click", () => room[act]());
  byId("earlier").addEventListener("click", () => room.earlier());
} else {
  byId("door").hidden = false;
  byId("user").focus();
}
