"""The official Python SDK, remote-controlled: a line of JSON in for each call, out for each result and event.

driver.mjs is the same around the JavaScript SDK.
"""

import asyncio
import json
import sys
from typing import Any

from centrifuge import CentrifugeError, Client, StreamPosition, Subscription, SubscriptionEventHandler
from centrifuge.handlers import ClientEventHandler


def tell(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def publication(publication: Any) -> dict[str, Any]:
    user = publication.info.user if publication.info else None
    return {"data": publication.data, "offset": publication.offset, "user": user, "tags": publication.tags}


class ClientEvents(ClientEventHandler):
    def __init__(self, client: str) -> None:
        self.client = client

    def tell(self, event: str, **about: Any) -> None:
        tell(client=self.client, channel=None, event=event, **about)

    async def on_connecting(self, ctx: Any) -> None:
        self.tell("connecting", code=ctx.code, reason=ctx.reason)

    async def on_connected(self, ctx: Any) -> None:
        self.tell("connected", id=ctx.client)

    async def on_disconnected(self, ctx: Any) -> None:
        self.tell("disconnected", code=ctx.code, reason=ctx.reason)

    async def on_error(self, ctx: Any) -> None:
        self.tell("error", code=getattr(ctx.error, "code", ctx.code))


class Events(SubscriptionEventHandler):
    def __init__(self, client: str, channel: str) -> None:
        self.client, self.channel = client, channel

    def tell(self, event: str, **about: Any) -> None:
        tell(client=self.client, channel=self.channel, event=event, **about)

    async def on_subscribing(self, ctx: Any) -> None:
        self.tell("subscribing", code=ctx.code, reason=ctx.reason)

    async def on_subscribed(self, ctx: Any) -> None:
        self.tell(
            "subscribed",
            recoverable=ctx.recoverable,
            positioned=ctx.positioned,
            wasRecovering=ctx.was_recovering,
            recovered=ctx.recovered,
        )

    async def on_unsubscribed(self, ctx: Any) -> None:
        self.tell("unsubscribed", code=ctx.code, reason=ctx.reason)

    async def on_publication(self, ctx: Any) -> None:
        self.tell("publication", **publication(ctx.pub))

    async def on_join(self, ctx: Any) -> None:
        self.tell("join", user=ctx.info.user, of=ctx.info.client)

    async def on_leave(self, ctx: Any) -> None:
        self.tell("leave", user=ctx.info.user, of=ctx.info.client)

    async def on_error(self, ctx: Any) -> None:
        self.tell("error", code=getattr(ctx.error, "code", ctx.code))


class Calls:
    """What one may call, by the names of driver.mjs."""

    def __init__(self) -> None:
        self.clients: dict[str, Client] = {}

    async def open(self, client: str, url: str, token: str = "", tokens: list[str] | None = None) -> None:
        async def get_token() -> str:
            return tokens.pop(0) if tokens else ""

        self.clients[client] = Client(
            url,
            events=ClientEvents(client),
            token=token,
            get_token=None if tokens is None else get_token,
            min_reconnect_delay=0.05,
            max_reconnect_delay=0.2,
            proxy=None,
        )
        await self.clients[client].connect()

    async def connect(self, client: str) -> None:
        await self.clients[client].connect()

    async def disconnect(self, client: str) -> None:
        await self.clients[client].disconnect()

    async def subscribe(self, client: str, channel: str) -> None:
        subscription = self.clients[client].get_subscription(channel) or self.clients[client].new_subscription(
            channel, events=Events(client, channel), min_resubscribe_delay=0.05, max_resubscribe_delay=0.2
        )
        await subscription.subscribe()

    def _subscription(self, client: str, channel: str) -> Subscription:
        subscription = self.clients[client].get_subscription(channel)
        assert subscription
        return subscription

    async def unsubscribe(self, client: str, channel: str) -> None:
        await self._subscription(client, channel).unsubscribe()

    async def state(self, client: str, channel: str) -> str:
        return self._subscription(client, channel).state.value

    async def publish(self, client: str, channel: str, data: Any) -> None:
        await self.clients[client].publish(channel, data)

    async def presence(self, client: str, channel: str) -> Any:
        here = (await self.clients[client].presence(channel)).clients
        return {connection_id: [info.user, info.conn_info] for connection_id, info in here.items()}

    async def presenceStats(self, client: str, channel: str) -> Any:
        stats = await self.clients[client].presence_stats(channel)
        return [stats.num_clients, stats.num_users]

    async def history(self, client: str, channel: str, since: Any = None, **options: Any) -> Any:
        position = StreamPosition(**since) if since else None
        page = await self.clients[client].history(channel, since=position, **options)
        publications = [publication(each) for each in page.publications]
        return {"epoch": page.epoch, "offset": page.offset, "publications": publications}

    async def rpc(self, client: str, method: str, data: Any = None) -> Any:
        return (await self.clients[client].rpc(method, data)).data


async def main() -> None:
    calls, running = Calls(), set()
    reader = asyncio.StreamReader(limit=2**20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def do(call: str, number: int, **options: Any) -> None:
        try:
            tell(number=number, result=await getattr(calls, call)(**options))
        except CentrifugeError as error:
            tell(number=number, error={"code": getattr(error, "code", None), "message": str(error)})

    while line := await reader.readline():
        # Not awaited: calls of one client go out as fast as they come.
        task = asyncio.create_task(do(**json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


asyncio.run(main())
