// Fault switches: while one is on, that goes wrong which goes wrong on AWS once in a while.

import { announce } from "./announce.js";
import { byId, element, say } from "./dom.js";
import * as gateway from "./gateway.js";

const TARGETS = { connectionId: "any connection", route: "any route", function: "any function" };
const MAX_TARGETS = 100;
const switches = new Map();

/** Show what is armed; the first time, make the switches. */
export function show({ gateway: about, faults }) {
  if (about) {
    if (switches.size === 0) byId("faults-kinds").append(...Object.entries(about.faults).map(toKind));
    offer("function", about.functions);
    offer("route", about.routes);
  }
  if (faults) draw(faults);
}

/** Offer the connections that there are as targets; called when this is looked at. */
export function offerConnections() {
  offer("connectionId", [...gateway.known.connections.keys()].slice(-MAX_TARGETS));
}

function offer(target, names) {
  byId(`fault-targets-${target}`).replaceChildren(...names.map((value) => element("option", { value })));
}

function toKind([name, { meaning, target, is_delay: isDelay }]) {
  const id = `fault-${name}`;
  const toggle = element(
    "button",
    { type: "button", className: "switch", id, aria: { role: "switch", checked: "false", describedby: `${id}-means` } },
    element("span", { className: "knob" }),
    name,
  );
  const where = element("input", {
    className: "code",
    placeholder: TARGETS[target],
    aria: { label: `${name}: which ${target}` },
  });
  where.setAttribute("list", `fault-targets-${target}`);
  const times = element("input", {
    className: "short",
    type: "number",
    min: 1,
    placeholder: "always",
    aria: { label: `${name}: how often` },
  });
  const seconds = isDelay
    ? element("input", {
        className: "short",
        type: "number",
        min: 0.1,
        step: 0.1,
        value: 1,
        title: "Seconds",
        aria: { label: `${name}: seconds` },
      })
    : null;
  toggle.addEventListener("click", async () => {
    if (toggle.getAttribute("aria-checked") === "true") {
      for (const fault of gateway.known.faults.filter((one) => one.fault === name))
        tell(name, await gateway.disarm(fault));
      return;
    }
    const fault = { fault: name, times: times.value ? Number(times.value) : null };
    if (where.value) fault[target] = where.value;
    if (seconds) fault.seconds = Number(seconds.value);
    tell(name, await gateway.arm(fault));
  });
  switches.set(name, toggle);
  const means = element("span", { id: `${id}-means`, className: "means" }, meaning);
  const fields = element(
    "span",
    { className: "fields" },
    ...(seconds ? [seconds, element("span", { className: "quiet" }, "s")] : []),
    where,
    times,
  );
  return element("li", {}, toggle, means, fields);
}

function tell(name, answer) {
  if (answer.isOk) draw(answer.said.faults);
  const result = byId("faults-result");
  result.dataset.is = "bad";
  say(result, answer.isOk ? "" : gateway.summary(answer));
  const isOn = gateway.known.faults.some((one) => one.fault === name);
  announce("faults", answer.isOk ? `${name} is ${isOn ? "on" : "off"}.` : answer.message);
}

function draw(faults) {
  gateway.known.faults = faults;
  for (const [name, toggle] of switches) {
    toggle.setAttribute("aria-checked", String(faults.some((one) => one.fault === name)));
  }
  say(document.querySelector("#tab-faults .count"), faults.length ? String(faults.length) : "");
  byId("faults-empty").hidden = faults.length > 0;
  byId("faults-armed").replaceChildren(...faults.map(toArmed));
}

function toArmed(fault) {
  const target = Object.keys(TARGETS).find((key) => key in fault);
  const { target: kind } = gateway.known.about.faults[fault.fault];
  const often = fault.times === null ? "always" : fault.times === 1 ? "once more" : `${fault.times} times more`;
  const delay = fault.seconds ? `, ${fault.seconds} s` : "";
  const off = element(
    "button",
    { type: "button", aria: { label: `Switch off ${fault.fault} for ${target ? fault[target] : TARGETS[kind]}` } },
    "Off",
  );
  off.addEventListener("click", async () => tell(fault.fault, await gateway.disarm(fault)));
  return element(
    "li",
    {},
    element("b", { className: "code" }, fault.fault),
    element("span", { className: "grow" }, `${target ? fault[target] : TARGETS[kind]}, ${often}${delay}`),
    off,
  );
}
