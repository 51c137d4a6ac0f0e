// The list of frames: the last ones of all sockets, in both directions, with their times.

import { byId, disclosure, element, say, soon } from "./dom.js";
import { clock, duration, size } from "./format.js";
import { pretty } from "./json.js";
import { Ring } from "./ring.js";

const MAX_FRAMES = 1_000;
const MAX_CHARS = 4_000_000;
const PREVIEW_CHARS = 300;
const ARROWS = { in: ["↓", "Received"], out: ["↑", "Sent"], note: ["·", ""] };

const list = byId("frames");
const scroll = byId("frames-scroll");
const more = byId("frames-more");
const rows = new Map();
const kept = new Ring(MAX_FRAMES, MAX_CHARS, (record) => {
  rows.get(record)?.remove();
  rows.delete(record);
});
// New ones are put into the page once a screen frame: a flood costs what can be seen of it.
let fresh = [];
let isAtEnd = true;
let chosen = null;

/** List a record. */
export function add(record) {
  kept.push(record, record.text.length);
  fresh.push(record);
  if (fresh.length > MAX_FRAMES) fresh = fresh.slice(-MAX_FRAMES);
  draw();
}

const draw = soon(() => {
  const there = new Set(kept);
  const made = fresh
    .filter((record) => there.has(record))
    .map((record) => {
      const row = toRow(record);
      rows.set(record, row);
      row.hidden = !isWanted(record);
      return row;
    });
  fresh = [];
  list.append(...made);
  byId("frames-empty").hidden = rows.size > 0;
  if (isAtEnd) scroll.scrollTop = scroll.scrollHeight;
  else if (made.some((row) => !row.hidden)) more.hidden = false;
});

function toRow(record) {
  const { kind, text, socket, when } = record;
  const [arrow, name] = ARROWS[kind];
  const time = element("time", {}, clock(when));
  const mark = element(
    "span",
    { className: `mark hue${socket.hue}`, title: `Connection ${socket.number}` },
    String(socket.number),
  );
  const sign = element("span", { className: "arrow", title: name, aria: { role: "img", label: name } }, arrow);
  if (kind === "note") return element("li", { className: "note" }, time, mark, sign, element("span", {}, text));
  const facts = element("span", { className: "facts" });
  const timing = element("span", { className: "timing" });
  facts.append(timing, element("span", {}, size(record.size)));
  // How long the answer took is shown with the frame that was sent, and with the answer.
  record.answered = () => {
    const ms = record.answerMs ?? record.afterMs;
    if (ms === undefined) return;
    say(timing, kind === "out" ? duration(ms) : `+${duration(ms)}`);
    timing.title = kind === "out" ? "From here to the first frame that came back" : "After the frame it answers";
  };
  record.answered();
  const preview = element(
    "span",
    { className: "preview" },
    text.length > PREVIEW_CHARS ? `${text.slice(0, PREVIEW_CHARS)}…` : text,
  );
  const body = () => [element("pre", {}, ...pretty(text))];
  return element(
    "li",
    { className: kind },
    disclosure([time, mark, sign, preview, facts], body, byId("frames-open").checked),
  );
}

/** Know which socket is chosen, for those who want to see its frames alone. */
export function choose(socket) {
  chosen = socket;
  filter();
}

function isWanted({ kind, text, socket }) {
  if (byId("frames-chosen").checked && chosen && socket !== chosen) return false;
  const direction = byId("frames-direction").value;
  const filter = byId("frames-filter").value.toLowerCase();
  return (!direction || kind === direction) && (!filter || text.toLowerCase().includes(filter));
}

function filter() {
  for (const [record, row] of rows) row.hidden = !isWanted(record);
  if (isAtEnd) scroll.scrollTop = scroll.scrollHeight;
}

function goToEnd() {
  scroll.scrollTop = scroll.scrollHeight;
  isAtEnd = true;
  more.hidden = true;
}

/** Begin. */
export function start() {
  byId("frames-filter").addEventListener("input", filter);
  byId("frames-direction").addEventListener("change", filter);
  byId("frames-chosen").addEventListener("change", filter);
  byId("frames-open").addEventListener("change", ({ target }) => {
    for (const row of rows.values()) if (row.firstChild.tagName === "DETAILS") row.firstChild.open = target.checked;
  });
  byId("frames-clear").addEventListener("click", () => {
    kept.clear();
    fresh = [];
    byId("frames-empty").hidden = false;
    goToEnd();
  });
  scroll.addEventListener("scroll", () => {
    isAtEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 24;
    if (isAtEnd) more.hidden = true;
  });
  more.addEventListener("click", goToEnd);
}
