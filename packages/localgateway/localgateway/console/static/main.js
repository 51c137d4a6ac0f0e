// Start the console: pass each event of the gateway to every view.

import { announce } from "./announce.js";
import * as client from "./client.js";
import * as connections from "./connections.js";
import { byId, say } from "./dom.js";
import * as faults from "./faults.js";
import * as gateway from "./gateway.js";
import * as invocations from "./invocations.js";
import * as tables from "./tables.js";
import * as tabs from "./tabs.js";

function hear(changes) {
  if (changes.gateway) {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const url = `${scheme}://${location.host}${changes.gateway.path}`;
    say(byId("project"), changes.gateway.project);
    say(byId("address"), url);
    document.title = `${changes.gateway.project} · Console`;
    client.offer(url);
    tables.take(changes);
  }
  setFeed("live", "Live");
  if (changes.connections || changes.closed || "total" in changes || changes.gateway) connections.show();
  if (changes.invocations || changes.running || changes.isAnother) invocations.take(changes);
  faults.show(changes);
}

function setFeed(state, text) {
  if (byId("feed").dataset.state === state) return;
  byId("feed").dataset.state = state;
  say(byId("feed"), text);
  announce("feed", `Gateway: ${text}.`);
}

client.start();
tables.start();
connections.start((id) => {
  invocations.find(id);
  tabs.show("invocations");
  byId("tab-invocations").focus();
});
invocations.start((id) => {
  connections.find(id);
  tabs.show("connections");
  byId("tab-connections").focus();
});
tabs.start((name) => {
  connections.show(name === "connections");
  invocations.show(name === "invocations");
  if (name === "tables") tables.show();
  if (name === "faults") faults.offerConnections();
});
gateway.follow(hear, () => setFeed("lost", "Out of reach, trying again"));
