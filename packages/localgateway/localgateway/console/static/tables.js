// The rows of the project's tables, a page at a time; for looking only.

import { byId, disclosure, element, say } from "./dom.js";
import { plural } from "./format.js";
import * as gateway from "./gateway.js";
import { plain, plainItem, pretty } from "./json.js";

const NONE = "This project has no tables: they would stand in its resources.json.";
let next = null;
let isRead = false;

/** Begin. */
export function start() {
  byId("table").addEventListener("change", () => read(null));
  byId("tables-first").addEventListener("click", () => read(null));
  byId("tables-next").addEventListener("click", () => read(next));
  byId("tables-filter").addEventListener("input", filter);
}

/** Take the names of the tables. */
export function take({ gateway: about }) {
  if (!about) return;
  const chosen = byId("table").value;
  byId("table").replaceChildren(...about.tables.map((name) => element("option", { value: name }, name)));
  if (about.tables.includes(chosen)) byId("table").value = chosen;
  const hasNone = about.tables.length === 0;
  for (const id of ["table", "tables-filter", "tables-first", "tables-next"]) byId(id).disabled = hasNone;
  isRead = false;
  if (hasNone) showRows([], NONE);
  else if (!byId("tables").hidden) show();
}

/** Read the first page, the first time that this is looked at. */
export function show() {
  if (!isRead && gateway.known.about?.tables.length) read(null);
}

async function read(after) {
  isRead = true;
  const answer = await gateway.readRows(byId("table").value, after);
  if (!answer.isOk) {
    next = null;
    showRows([], answer.message);
  } else {
    next = answer.said.next;
    showRows(
      answer.said.rows.map((row) => toRow(row, answer.said.keys)),
      "There are no rows.",
    );
    say(
      byId("tables-said"),
      `${plural(answer.said.rows.length, "row")}${after ? " of a later page" : ""}${next ? ", more follow" : ""}`,
    );
  }
  byId("tables-next").disabled = !next;
}

function showRows(rows, otherwise) {
  byId("tables-rows").replaceChildren(...rows);
  byId("tables-empty").hidden = rows.length > 0;
  say(byId("tables-empty"), otherwise);
  if (!rows.length) say(byId("tables-said"), "");
  filter();
}

function toRow(row, keys) {
  const rest = Object.fromEntries(Object.entries(row).filter(([name]) => !keys.includes(name)));
  const names = keys.map((name) => element("span", { className: "key", title: name }, unquoted(row[name])));
  const summary = [
    element("span", { className: "keys code" }, ...names),
    element("span", { className: "preview" }, plainItem(rest)),
  ];
  return element(
    "li",
    {},
    disclosure(summary, () => [element("pre", {}, ...pretty(plainItem(row)))]),
  );
}

const unquoted = (typed) => typed?.S ?? (typed ? plain(typed) : "");

function filter() {
  const text = byId("tables-filter").value.toLowerCase();
  for (const row of byId("tables-rows").children)
    row.hidden = !row.querySelector("summary").textContent.toLowerCase().includes(text);
}
