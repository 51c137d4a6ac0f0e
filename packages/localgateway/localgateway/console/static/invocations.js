// What has run: why, for which connection, how it ended, and what it wrote.

import { announce } from "./announce.js";
import { byId, disclosure, element, say } from "./dom.js";
import { age, clock, duration, plural } from "./format.js";
import * as gateway from "./gateway.js";
import { Ring } from "./ring.js";

const MAX_INVOCATIONS = 500;
const MAX_CHARS = 4_000_000;

const list = byId("invocations-rows");
const rows = new Map();
const kept = new Ring(MAX_INVOCATIONS, MAX_CHARS, (one) => {
  rows.get(one)?.remove();
  rows.delete(one);
});
let isShown = false;
let failed = 0;
let last = 0;
let lookUp = () => {};

/** Begin; `connectionOf` shows a connection. */
export function start(connectionOf) {
  lookUp = connectionOf;
  byId("invocations-filter").addEventListener("input", filter);
  byId("invocations-failed").addEventListener("change", filter);
  byId("invocations-clear").addEventListener("click", forget);
  setInterval(() => isShown && !document.hidden && drawRunning(), 1_000);
}

/** Take what the feed tells; of another gateway than before, all is new. */
export function take({ invocations = [], running, isAnother }) {
  if (isAnother) forget();
  if (isAnother) last = 0;
  for (const one of invocations) {
    if (one.number <= last) continue;
    last = one.number;
    kept.push(
      one,
      one.lines.reduce((sum, line) => sum + line.length, 200),
    );
    if (isFailure(one)) {
      failed += 1;
      announce("failures", `${plural(failed, "invocation")} failed.`);
    }
    const row = toRow(one);
    row.hidden = !isWanted(one);
    rows.set(one, row);
    list.prepend(row);
  }
  if (running) drawRunning();
  byId("invocations-empty").hidden = rows.size > 0;
  const count = document.querySelector("#tab-invocations .count");
  say(count, failed ? String(failed) : "");
  count.title = failed ? `${plural(failed, "invocation")} failed` : "";
}

/** Show them, or stop to. */
export function show(isLookedAt) {
  isShown = isLookedAt;
  if (isShown) drawRunning();
}

/** Show what has run for one connection alone. */
export function find(id) {
  byId("invocations-filter").value = id;
  byId("invocations-failed").checked = false;
  filter();
}

const isFailure = ({ outcome }) => outcome !== "ok";

function toRow(one) {
  const summary = [
    element("time", {}, clock(one.startedAt)),
    element("span", { className: "cause", data: { cause: one.cause } }, one.cause.toLowerCase()),
    element(
      "span",
      { className: "preview" },
      one.function,
      one.route && one.route !== `$${one.cause.toLowerCase()}` ? element("i", {}, one.route) : null,
      one.error ? element("em", {}, one.error) : null,
    ),
    element(
      "span",
      { className: "facts" },
      typeof one.connectionId === "string" ? element("span", { className: "wide code" }, one.connectionId) : null,
      one.lines.length ? element("span", { title: "Lines that it wrote" }, `≡ ${one.lines.length}`) : null,
      element("span", {}, duration(one.durationMs)),
      element(
        "span",
        { className: "outcome", data: { is: isFailure(one) ? "bad" : "ok" } },
        String(isFailure(one) ? one.outcome : (one.status ?? "ok")),
      ),
    ),
  ];
  return element(
    "li",
    {},
    disclosure(summary, () => toDetails(one)),
  );
}

function toDetails(one) {
  const facts = element(
    "p",
    { className: "quiet" },
    `${one.function} · ${one.route ?? one.cause.toLowerCase()} · ${one.durationMs} ms`,
  );
  if (typeof one.connectionId === "string") {
    const connection = element("button", { type: "button", className: "bare link code" }, one.connectionId);
    connection.addEventListener("click", () => lookUp(one.connectionId));
    facts.append(" · ", connection);
  }
  return [
    facts,
    ...(one.error ? [element("p", { className: "problem" }, one.error)] : []),
    one.lines.length
      ? element("pre", { aria: { label: "What it wrote" } }, one.lines.join("\n"))
      : element("p", { className: "quiet" }, "It wrote nothing."),
  ];
}

function isWanted(one) {
  const text = byId("invocations-filter").value.toLowerCase();
  if (byId("invocations-failed").checked && !isFailure(one)) return false;
  const told = [one.function, one.route, one.cause, one.connectionId, one.error, ...one.lines];
  return (
    !text ||
    told.some((part) =>
      String(part ?? "")
        .toLowerCase()
        .includes(text),
    )
  );
}

function filter() {
  for (const [one, row] of rows) row.hidden = !isWanted(one);
}

function forget() {
  kept.clear();
  failed = 0;
  take({});
}

function drawRunning() {
  const now = gateway.now();
  const made = gateway.known.running.map((one) =>
    element(
      "li",
      { className: "running" },
      element("time", {}, clock(one.startedAt)),
      element("span", { className: "cause" }, one.cause.toLowerCase()),
      element("span", { className: "preview" }, one.function),
      element("span", { className: "facts" }, `at work for ${age(now - Date.parse(one.startedAt))}`),
    ),
  );
  byId("running").replaceChildren(...made);
}
