// The official JavaScript SDK, remote-controlled: one JSON object a line comes in for each call, out for each result
// and event. driver.py is the same around the Python SDK; test_sdks.py knows both by nothing but their names.
import { createInterface } from "node:readline";
import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

const clients = new Map();
const tell = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

function listen(emitter, client, channel, events) {
  for (const [event, read] of Object.entries(events)) {
    emitter.on(event, (context) => tell({ client, channel, event, ...read(context) }));
  }
}

const change = ({ code, reason }) => ({ code, reason });
const failure = ({ type, error }) => ({ type, code: error.code });
const whose = ({ info }) => ({ user: info.user, of: info.client });
const publication = ({ data, offset, info, tags }) => ({
  data, offset: offset ?? 0, user: info?.user ?? null, tags: tags ?? {},
});

const calls = {
  open(client, { url, token, tokens }) {
    const getToken = tokens && (async () => tokens.shift() ?? "");
    const quick = { minReconnectDelay: 50, maxReconnectDelay: 200 };
    const centrifuge = new Centrifuge(url, { websocket: WebSocket, token, getToken, ...quick });
    clients.set(client, centrifuge);
    listen(centrifuge, client, null, {
      connecting: change,
      connected: (context) => ({ id: context.client }),
      disconnected: change,
      error: failure,
      message: ({ data }) => ({ data }),
      subscribed: ({ channel }) => ({ type: "server", channel }),
    });
    centrifuge.connect();
  },
  disconnect: (client) => clients.get(client).disconnect(),
  connect: (client) => clients.get(client).connect(),
  subscribe(client, { channel }) {
    const centrifuge = clients.get(client);
    let subscription = centrifuge.getSubscription(channel);
    if (subscription === null) {
      subscription = centrifuge.newSubscription(channel, { minResubscribeDelay: 50, maxResubscribeDelay: 200 });
      listen(subscription, client, channel, {
        subscribing: change,
        subscribed: ({ recoverable, positioned, wasRecovering, recovered }) =>
          ({ recoverable, positioned, wasRecovering, recovered }),
        unsubscribed: change,
        publication,
        join: whose,
        leave: whose,
        error: failure,
      });
    }
    subscription.subscribe();
  },
  unsubscribe: (client, { channel }) => clients.get(client).getSubscription(channel).unsubscribe(),
  state: (client, { channel }) => clients.get(client).getSubscription(channel).state,
  publish: async (client, { channel, data }) => void await clients.get(client).publish(channel, data),
  async presence(client, { channel }) {
    const { clients: here } = await clients.get(client).presence(channel);
    return Object.fromEntries(Object.entries(here).map(([id, info]) => [id, [info.user, info.connInfo ?? null]]));
  },
  async presenceStats(client, { channel }) {
    const { numClients, numUsers } = await clients.get(client).presenceStats(channel);
    return [numClients, numUsers];
  },
  async history(client, { channel, ...options }) {
    const { epoch, offset, publications } = await clients.get(client).history(channel, options);
    return { epoch, offset, publications: publications.map(publication) };
  },
  rpc: async (client, { method, data }) => (await clients.get(client).rpc(method, data)).data,
};

for await (const line of createInterface({ input: process.stdin })) {
  const { call, client, number, ...options } = JSON.parse(line);
  // Not awaited: calls of one client go out as fast as they come.
  Promise.resolve()
    .then(() => calls[call](client, options))
    .then((result) => tell({ number, result: result ?? null }))
    .catch((error) => tell({ number, error: { code: error.code, message: error.message } }));
}
process.exit(0);
