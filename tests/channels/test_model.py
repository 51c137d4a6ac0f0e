"""Channels against a simple model: no client misses a promised publication, however Lambdas die.

Each step is a random one of: connect, subscribe, lose the connection, reconnect and recover, publish (maybe
with a crash at a random DynamoDB call or send), let time pass. The model knows only what was written, in the order of
its offsets.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from chalicelib.handlers import jobs
from chalicelib.peal import build
from chalicelib.protocol.grants import EVERYTHING
from chalicelib.protocol.namespaces import Namespace, resolve
from chalicelib.settings import Settings
from chalicelib.store import keys, lease
from chalicelib.store.log import Log
from chalicelib.store.members import Members
from chalicelib.store.table import Table
from tests.conftest import Clock, create_table
from tests.support.clients import Client
from tests.support.fakes import FakeJobs, FakeWebsocketApi, gone

pytestmark = pytest.mark.slow

CHANNEL = "room:1"
# `PEAL_EXAMPLES=2000 pytest tests/channels/test_model.py` looks longer.
EXAMPLES = int(os.environ.get("PEAL_EXAMPLES", "15"))
ROOM = {"room": Namespace(history_size=8, history_ttl_seconds=24 * 3_600)}


class Killed(BaseException):
    """The Lambda ends here."""


@dataclass
class Recovery:
    """A client of the application: what it shows, and the last position it knows."""

    name: str
    client: Client | None = None
    epoch: str | None = None
    offset: int = 0
    shown: dict[int, Any] = field(default_factory=dict)
    since: int = 0
    may_repeat: bool = False


class MortalApi(FakeWebsocketApi):
    """The sends of a Lambda that may die at one of them."""

    def __init__(self, machine: "ChannelsAgainstModel") -> None:
        super().__init__()
        self._machine = machine

    def send(self, connection_id: str, message: str) -> None:
        self._machine.step()
        if connection_id in self._machine.cut_off:
            raise gone()
        super().send(connection_id, message)


class MortalTable(Table):
    """The table of a Lambda that may die before or after one of its calls."""

    machine: "ChannelsAgainstModel"


def mortal(name: str) -> Any:
    def call(self: MortalTable, *arguments: Any, **named: Any) -> Any:
        self.machine.step()
        result = getattr(Table, name)(self, *arguments, **named)
        self.machine.step()
        return result

    return call


for _name in ("put", "put_new", "put_both", "get", "update", "delete", "write"):
    setattr(MortalTable, _name, mortal(_name))


class ChannelsAgainstModel(RuleBasedStateMachine):
    dynamodb: Any
    session: Any
    readers = Bundle("readers")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock(1_795_426_210.0)
        self.api = MortalApi(self)
        self.jobs = FakeJobs()
        self.cut_off: set[str] = set()
        self.lives: int | None = None
        self.numbers = 0
        self.written: dict[int, Any] = {}
        self.all: list[Recovery] = []
        table_name = create_table(self.dynamodb)
        self.channel = resolve(CHANNEL, ROOM)
        self.rows = Table(self.dynamodb, table_name, self.clock)
        self.history = Log(self.rows, self.clock)
        self.members = Members(self.rows, ROOM, self.clock)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("chalicelib.store.store.Table", MortalTable)
            MortalTable.machine = self
            service_settings = Settings(table_name, allow_anonymous=True, anonymous_grants=EVERYTHING)
            self.peal = build(
                service_settings,
                self.api,
                self.session,
                self.clock,
                namespaces=ROOM,
                jobs=self.jobs,
                sleep=self.wait,
            )

    def wait(self, seconds: float) -> None:
        # The clock runs fast, so that waiting for the lease of a dead Lambda takes a few reads and not a thousand.
        self.clock.now += max(seconds, 1)

    def step(self) -> None:
        """Count a step of the running Lambda; it dies when its lives are used up."""
        if self.lives is not None:
            self.lives -= 1
            if self.lives < 0:
                raise Killed

    @rule(target=readers)
    def somebody_comes(self) -> Recovery:
        self.numbers += 1
        reader = Recovery(f"reader{self.numbers}")
        self.all.append(reader)
        return reader

    @rule(reader=readers, lives=st.none() | st.integers(0, 30))
    def subscribes(self, reader: Recovery, lives: int | None) -> None:
        if reader.client is None or reader.client.id in self.cut_off:
            self.numbers += 1
            reader.client = Client(
                self.peal, self.api, f"c{self.numbers}=", connected_at_ms=int(self.clock.now * 1000), userId=reader.name
            )
        frame: dict[str, Any] = {"action": "subscribe", "id": 1, "channel": CHANNEL}
        if reader.epoch is not None:
            frame["recover"] = {"epoch": reader.epoch, "offset": reader.offset}
        self.lives = lives
        try:
            reader.client.sends(frame)
        except Killed:
            # API Gateway sends the client an error, and the client reconnects.
            self.lives = None
            self.nothing_is_sure()
            self.read(reader)
            self.ends(reader)
        self.lives = None
        self.read(reader)

    @rule(reader=readers, is_heard=st.booleans())
    def is_cut_off(self, reader: Recovery, is_heard: bool) -> None:
        if reader.client is not None and reader.client.id not in self.cut_off:
            self.ends(reader, is_heard)

    def ends(self, reader: Recovery, is_heard: bool = True) -> None:
        assert reader.client is not None
        self.cut_off.add(reader.client.id)
        if is_heard:
            reader.client.disconnects()

    @rule(data=st.integers(0, 99), lives=st.none() | st.integers(0, 24), with_id=st.booleans())
    def publishes(self, data: int, lives: int | None, with_id: bool) -> None:
        self.numbers += 1
        message_id = f"m{self.numbers}" if with_id else None
        self.lives = lives
        try:
            self.peal.publish(CHANNEL, [self.numbers, data], message_id=message_id)
        except Killed:
            self.lives = None
            self.nothing_is_sure()
            if with_id:
                with suppress(Killed):
                    self.peal.publish(CHANNEL, [self.numbers, data], message_id=message_id)
        self.lives = None

    @rule(lives=st.none() | st.integers(0, 24))
    def a_worker_does_its_jobs(self, lives: int | None) -> None:
        for job in self.jobs.take():
            self.lives = lives
            try:
                jobs.work(self.peal, {"Records": [{"body": json.dumps(job)}]})
            except Killed:
                # SQS delivers it again.
                self.jobs.put(job)
                self.nothing_is_sure()
            self.lives = None

    def nothing_is_sure(self) -> None:
        """Note that everything sent by the dead Lambda may be repeated."""
        for reader in self.all:
            reader.may_repeat = True

    @rule(seconds=st.sampled_from([1, 4, lease.LEASE_MS / 1000, 2_000, 50_000]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    def read(self, reader: Recovery) -> None:
        """Follow docs/PROTOCOL.md: drop what is not new, and start afresh if nothing was recovered."""
        if reader.client is None:
            return
        parts: list[Any] = []
        for frame in self.api.frames(reader.client.id):
            match frame["type"]:
                case "recovery":
                    parts += frame["publications"]
                case "reply":
                    told = frame["data"]
                    if told.get("recovered"):
                        for publication in [*parts, *told["publications"]]:
                            self.show(reader, publication)
                        assert reader.offset <= told["offset"] or reader.may_repeat
                    else:
                        reader.epoch, reader.offset, reader.since = told["epoch"], told["offset"], told["offset"]
                        reader.shown = {}
                    reader.offset = max(reader.offset, told["offset"])
                    parts = []
                case "publication":
                    self.show(reader, frame)
                case "error":
                    assert frame["error"]["code"] in ("internal_error", "unauthenticated"), frame
                    if frame["error"]["code"] == "unauthenticated":
                        # The two hours of its connection are over.
                        self.cut_off.add(reader.client.id)

    def show(self, reader: Recovery, publication: dict[str, Any]) -> None:
        assert publication.get("epoch", reader.epoch) == reader.epoch
        if publication["offset"] <= reader.offset:
            assert reader.may_repeat, (publication, reader)
            assert reader.shown.get(publication["offset"], publication["data"]) == publication["data"]
            return
        reader.shown[publication["offset"]] = publication["data"]
        reader.offset = publication["offset"]

    @invariant()
    def nobody_has_missed_anything(self) -> None:
        for reader in self.all:
            self.read(reader)
        row = self.rows.get(keys.channel_key(CHANNEL))
        if row is None:
            return
        # What was written counts, delivered or not.
        self.written |= {
            publication.offset: publication.data
            for publication in self.history.read(self.channel, str(row["epoch"]), 1, 10_000)
            if not publication.is_empty
        }
        for reader in self.all:
            if reader.epoch is not None:
                expected = {n: data for n, data in self.written.items() if reader.since < n <= reader.offset}
                assert reader.shown == expected, (reader, expected)

    def teardown(self) -> None:
        """Publish once every dead lease has run out: all connected clients are up to date then."""
        self.clock.now += lease.LEASE_MS / 1000
        self.lives = None
        last = self.peal.publish(CHANNEL, "last")
        self.nobody_has_missed_anything()
        for reader in self.all:
            if reader.client is not None and reader.client.id not in self.cut_off and self.is_member(reader):
                assert reader.offset == last.offset, reader

    def is_member(self, reader: Recovery) -> bool:
        assert reader.client is not None
        return reader.client.id in list(self.members.receivers(self.channel, 0))


def test_no_client_misses_a_promised_publication(dynamodb: Any, session: boto3.session.Session) -> None:
    ChannelsAgainstModel.dynamodb, ChannelsAgainstModel.session = dynamodb, session
    run_state_machine_as_test(
        ChannelsAgainstModel,
        settings=settings(
            max_examples=EXAMPLES,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
