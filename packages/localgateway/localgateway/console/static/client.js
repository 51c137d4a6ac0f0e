// The client: dials, holds several sockets at once, and sends from the one that is chosen.

import { announce } from "./announce.js";
import { byId, element, say } from "./dom.js";
import { plural } from "./format.js";
import * as frames from "./frames.js";
import { dialled, Socket } from "./sockets.js";

const MAX_SENT = 50;
const MAX_SENT_CHARS = 20_000;
const SHAPES = {
  query: ["Name", "token"],
  protocol: ["Prefix", "bearer."],
  frame: ["Frame", '{"action":"authenticate","token":"{token}"}'],
};
const REMEMBERED = ["query", "protocols", "place"];

const form = byId("connect");
const composer = byId("composer");
const text = byId("frame");
const sockets = new Map();
let chosen = null;
let heard = 0;

// What was sent, newest last, and where in it one is while looking back.
const sent = load(sessionStorage, "sent", []);
let back = sent.length;
let draft = "";

/** Begin; until the gateway has been heard of, its URL is not known. */
export function start() {
  frames.start();
  const options = load(localStorage, "options", {});
  for (const id of REMEMBERED) if (typeof options[id] === "string") byId(id).value = options[id];
  byId("place").addEventListener("change", () => showShape(load(localStorage, "options", {})));
  showShape(options);
  form.addEventListener("submit", dial);
  form.addEventListener("input", showOptions);
  composer.addEventListener("submit", send);
  text.addEventListener("keydown", type);
  byId("sockets").addEventListener("change", ({ target }) => choose(sockets.get(Number(target.value))));
}

/** Offer a URL to dial, unless somebody has typed one. */
export function offer(url) {
  if (!byId("url").value || byId("url").value === byId("url").dataset.offered) byId("url").value = url;
  byId("url").dataset.offered = url;
}

function showShape(options) {
  const place = byId("place").value || "query";
  const [label, shape] = SHAPES[place];
  byId("place").value = place;
  say(byId("shape-label"), label);
  byId("shape").value = options.shapes?.[place] ?? shape;
  showOptions();
}

function showOptions() {
  const said = [
    byId("query").value && "query",
    byId("protocols").value && "sub-protocols",
    byId("token").value && "token",
  ].filter(Boolean);
  say(byId("options-said"), said.length ? `: ${said.join(", ")}` : "");
}

function dial(event) {
  event.preventDefault();
  const asked = Object.fromEntries(
    ["url", "query", "protocols", "token", "place", "shape"].map((id) => [id, byId(id).value]),
  );
  const problem = byId("connect-error");
  try {
    const socket = new Socket(dialled(asked), hear, draw);
    sockets.set(socket.number, socket);
    byId("sockets").append(toChip(socket));
    choose(socket);
    problem.hidden = true;
  } catch (error) {
    problem.textContent =
      error instanceof TypeError ? "The URL is none: it begins with ws:// or wss://." : error.message;
    problem.hidden = false;
  }
  const shapes = { ...load(localStorage, "options", {}).shapes, [asked.place]: asked.shape };
  save(localStorage, "options", { ...Object.fromEntries(REMEMBERED.map((id) => [id, asked[id]])), shapes });
}

function hear(record) {
  frames.add(record);
  if (record.kind === "note")
    announce(`socket ${record.socket.number}`, `Connection ${record.socket.number}: ${record.text}.`);
  if (record.kind !== "in") return;
  heard += 1;
  announce("frames", `${plural(heard, "frame")} received.`);
}

// Which sockets there are, and which one sends.

function toChip(socket) {
  const name = `Connection ${socket.number}`;
  const radio = element("input", { type: "radio", name: "socket", value: socket.number, aria: { label: name } });
  const mark = element("span", { className: `mark hue${socket.hue}` }, String(socket.number));
  const end = element("button", { type: "button", className: "bare" }, "✕");
  end.addEventListener("click", () => (socket.state === "closed" ? forget(socket) : socket.close()));
  socket.chip = element(
    "span",
    { className: "chip" },
    element("label", {}, radio, mark, element("span", { className: "state" })),
    end,
  );
  return socket.chip;
}

function draw() {
  byId("sockets").hidden = sockets.size === 0;
  for (const socket of sockets.values()) {
    const isClosed = socket.state === "closed";
    socket.chip.dataset.state = socket.state;
    say(socket.chip.querySelector(".state"), socket.state);
    socket.chip.querySelector("input").checked = socket === chosen;
    const end = socket.chip.querySelector("button");
    end.title = `${isClosed ? "Forget" : "Close"} connection ${socket.number}`;
    end.setAttribute("aria-label", end.title);
  }
  byId("send").disabled = chosen?.state !== "open";
}

function choose(socket) {
  chosen = socket;
  frames.choose(socket);
  draw();
}

function forget(socket) {
  const hadFocus = socket.chip.contains(document.activeElement);
  sockets.delete(socket.number);
  socket.chip.remove();
  if (chosen === socket) choose([...sockets.values()].at(-1) ?? null);
  draw();
  if (hadFocus) (chosen?.chip.querySelector("input") ?? byId("url")).focus();
}

// Sending.

function send(event) {
  event.preventDefault();
  const frame = text.value;
  if (chosen?.state !== "open" || !frame) return;
  chosen.send(frame);
  if (sent.at(-1) !== frame && frame.length <= MAX_SENT_CHARS) sent.push(frame);
  sent.splice(0, sent.length - MAX_SENT);
  save(sessionStorage, "sent", sent);
  back = sent.length;
  text.value = "";
}

function type(event) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    composer.requestSubmit();
  }
  const hasModifier = event.ctrlKey || event.metaKey || event.altKey || event.shiftKey;
  if (hasModifier || event.isComposing || text.selectionStart !== text.selectionEnd) return;
  const isUp = event.key === "ArrowUp" && !text.value.slice(0, text.selectionStart).includes("\n");
  const isDown = event.key === "ArrowDown" && !text.value.slice(text.selectionEnd).includes("\n");
  const to = back + (isUp ? -1 : isDown ? 1 : 0);
  if (to === back || to < 0 || to > sent.length) return;
  event.preventDefault();
  if (back === sent.length) draft = text.value;
  back = to;
  text.value = sent[back] ?? draft;
}

// What stays: options for long, what was sent as long as this tab; a token never.

function load(storage, key, otherwise) {
  try {
    return JSON.parse(storage.getItem(`console.${key}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function save(storage, key, value) {
  try {
    storage.setItem(`console.${key}`, JSON.stringify(value));
  } catch {
    // Full, or forbidden: nothing is kept then.
  }
}
