// Says things to those who listen instead of look: the last of each kind, and not more often than one can listen.

import { byId } from "./dom.js";

const PAUSE_MS = 2_000;
const waiting = new Map();
let isQuiet = true;

/** Have a sentence said; what is still unsaid of its kind is not said any more. */
export function announce(kind, sentence) {
  waiting.set(kind, sentence);
  if (isQuiet) speak();
}

function speak() {
  isQuiet = waiting.size === 0;
  if (isQuiet) return;
  byId("status").textContent = [...waiting.values()].join(" ");
  waiting.clear();
  setTimeout(speak, PAUSE_MS);
}
