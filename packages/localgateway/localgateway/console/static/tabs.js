// Which view is shown. Where there is room, the client is beside the views of the gateway; otherwise it is one of them.

import { byId } from "./dom.js";

const NAMES = ["client", "connections", "invocations", "faults", "tables"];
const roomy = matchMedia("(min-width: 960px)");
let chosen = "client";
let wasShown = () => {};

/** Show a view, and notify the code that fills it. */
export function show(name) {
  chosen = name;
  const shown = roomy.matches && name === "client" ? "connections" : name;
  for (const each of NAMES) {
    const tab = byId(`tab-${each}`);
    tab.setAttribute("aria-selected", String(each === shown));
    tab.tabIndex = each === shown ? 0 : -1;
    byId(each).hidden = each !== shown && !(each === "client" && roomy.matches);
  }
  byId("tab-client").hidden = roomy.matches;
  // A panel of the tabs where it is one of them, otherwise a part of the page.
  const client = byId("client");
  if (roomy.matches) client.removeAttribute("role");
  else client.setAttribute("role", "tabpanel");
  wasShown(shown);
}

/** Begin; `told` is called with the name of each view that is shown. */
export function start(told) {
  wasShown = told;
  const tabs = NAMES.map((name) => byId(`tab-${name}`));
  tabs.forEach((tab, index) => tab.addEventListener("click", () => show(NAMES[index])));
  byId("tabs").addEventListener("keydown", (event) => {
    const there = tabs.filter((tab) => !tab.hidden);
    const at = there.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: there.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const tab = there[(to + there.length) % there.length];
    show(NAMES[tabs.indexOf(tab)]);
    tab.focus();
  });
  roomy.addEventListener("change", () => show(chosen));
  show(chosen);
}
