"""Payloads, tokens, queries and headers never reach a log line, whatever fails."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product
from typing import Any

import pytest
from chalice.app import LambdaFunctionEvent
from chalice.local import LambdaContext

from chalicelib.auth.authentication import Authentication
from chalicelib.errors import ConfigurationError, TableError
from chalicelib.handlers import rest, websocket
from chalicelib.peal import Peal, build
from chalicelib.protocol.frame import parse
from chalicelib.settings import Settings
from chalicelib.telemetry import Observer
from tests.conftest import LogLines
from tests.support import raw_events
from tests.support.fakes import FakeJobs, FakeWebsocketApi, gone, refused
from tests.support.signing import NEW, OLD, token

pytestmark = pytest.mark.slow

ID = "L0SM9cOFvHcCIhw="
CANARY = "s3cret-c4n4ry"
QUERIES: list[dict[str, str]] = [
    {CANARY: CANARY, "attributes": json.dumps({CANARY: CANARY})},
    {"token": CANARY},
    {"ticket": CANARY},
    {"token": token(channels={f"#{CANARY}": [CANARY]})},
    {"token": token(OLD, sub=CANARY)},
    {"userId": f"#{CANARY}"},
    {"deviceId": f"#{CANARY}"},
    {"attributes": json.dumps([CANARY])},
    {"attributes": CANARY},
]
HEADERS: list[dict[str, str]] = [
    {"Cookie": CANARY, "Origin": f"https://{CANARY}.example"},
    {"Authorization": f"Bearer {CANARY}"},
    {"Sec-WebSocket-Protocol": f"peal, bearer.{CANARY}, {CANARY}"},
    {"Sec-WebSocket-Protocol": f"bearer.{CANARY}"},
]
BODIES: list[str] = [
    CANARY,
    json.dumps([CANARY]),
    json.dumps({"action": CANARY}),
    json.dumps({"action": "ping", "id": CANARY * 99}),
    json.dumps({"action": [CANARY]}),
    json.dumps({"action": "sendMessage", "id": CANARY, "targetConnectionId": f"#{CANARY}", "text": CANARY}),
    json.dumps({"action": "sendMessage", "id": CANARY, "targetUserId": "u_1", "text": CANARY, "data": {CANARY: 1}}),
    json.dumps({"action": "sendMessage", "targetConnectionId": ID, "text": [CANARY]}),
    json.dumps({"action": "broadcastAll", "note": CANARY, "data": CANARY}),
    json.dumps({"action": "whoami", "id": CANARY}),
    json.dumps({"action": "authenticate", "id": CANARY, "token": CANARY}),
    json.dumps({"action": "authenticate", "token": token(sub=CANARY, exp=1)}),
    json.dumps({"action": "subscribe", "channel": "chat:a"}),
    json.dumps({"action": "subscribe", "channel": f"#{CANARY}", "recover": CANARY}),
    json.dumps({"action": "publish", "channel": "chat:a", "data": CANARY}),
    json.dumps({"action": "publish", "channel": "live:a", "data": CANARY, "messageId": f"#{CANARY}"}),
]
BROKEN = json.dumps({"action": "broken", "id": CANARY})


def broken(request: Any) -> dict[str, Any]:
    """Raise an exception that quotes what the client sent, as int() and KeyError do."""
    raise KeyError(request.frame.fields["id"])


class TestNothingSensitiveIsLogged:
    """Try every door with everything that clients and backends may send, in every kind of failure."""

    @pytest.fixture(params=["all is well", "no table", "sends fail", "receivers are gone", "the app is broken"])
    def peal(
        self,
        request: pytest.FixtureRequest,
        table_name: str,
        api: FakeWebsocketApi,
        session: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Peal:
        name = "no-such-table" if request.param == "no table" else table_name
        errors = {"sends fail": [refused(code) for code in ("500", "LimitExceededException") * 99]}
        errors["receivers are gone"] = [gone() for _ in range(999)]
        api.fails = {ID: errors.get(request.param, [])}

        def quoting(_: Authentication, event: Any) -> None:
            raise ValueError(str(event))

        if request.param == "the app is broken":
            monkeypatch.setattr(Authentication, "identify", quoting)
        return build(Settings(name, allow_anonymous=True, jwt_secrets=NEW), api, session, jobs=FakeJobs())

    @pytest.fixture
    def text(self, log_lines: LogLines) -> Iterator[list[str]]:
        """Check everything that was logged, as text."""
        texts: list[str] = []
        yield texts
        texts += [json.dumps(line) for line in log_lines()]
        assert len(texts) > 2
        assert [text for text in texts if CANARY in text] == []

    def runs(self, door: Callable[[Any], Any], event: Any) -> None:
        # Doors raise no other errors. Lambda's runtime logs these by itself; their texts are ours.
        with suppress(TableError, ConfigurationError):
            Observer()(LambdaFunctionEvent(event, LambdaContext("peal-dev-door", 128)), door)

    def test_by_the_websocket_doors(self, peal: Peal, text: list[str]) -> None:
        for query, headers in [({}, {}), *product(QUERIES, HEADERS)]:
            event = raw_events.connect(ID, query)
            event["headers"] |= headers
            self.runs(lambda _, event=event: websocket.connect(peal, event), event)
        for body in BODIES:
            event = raw_events.message(body, ID)
            self.runs(lambda _, event=event: websocket.message(peal, event), event)
        event = raw_events.message(BROKEN, ID)
        self.runs(lambda _: websocket.message(peal, event, {"broken": broken}), event)
        event = raw_events.disconnect(ID)
        self.runs(lambda _: websocket.disconnect(peal, event), event)

    def test_by_the_rest_doors(self, peal: Peal, text: list[str]) -> None:
        websocket.connect(peal, raw_events.connect(ID, {"userId": "u_1"}))
        for body in map(str.encode, [*BODIES, BROKEN]):
            for door, arguments in (
                (rest.post_to_user, ("u_1", body)),
                (rest.post_to_user, (f"#{CANARY}", body)),
                (rest.post_to_connection, (ID, body)),
                (rest.post_broadcast, (body,)),
                (rest.post_ticket, (body,)),
                (rest.post_ticket, (json.dumps({"userId": "u_1", "channels": {CANARY: [CANARY]}}).encode(),)),
            ):
                event = {"body": body.decode(), "headers": {"Authorization": CANARY}}
                self.runs(lambda _, door=door, arguments=arguments: rest.answer(door, peal, *arguments), event)

    def test_the_frame_for_the_broken_action_is_valid(self) -> None:
        assert json.loads(BROKEN) == parse(BROKEN).fields
