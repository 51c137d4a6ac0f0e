"""What each operation costs: DynamoDB's write units and calls, the rows that queries read, frames. COST.md has dollars.

The embedded engine counts writes as AWS does and reads not, so what is read is counted in calls and rows.
"""

import json
from typing import Any

import boto3
import pytest

from chalicelib.handlers import jobs as worker
from chalicelib.limits import LIMITS
from chalicelib.peal import Peal, build
from chalicelib.protocol.grants import EVERYTHING
from chalicelib.settings import Settings
from tests.conftest import Call, Clock, go_through
from tests.support.clients import Client, Sdk
from tests.support.fakes import FakeJobs, FakeWebsocketApi

LIVE, FEED, CHAT = "live:1", "feed:1", "chat:1"


class Bill:
    """What DynamoDB and the sockets have been used for since the bill was last settled."""

    def __init__(self, api: FakeWebsocketApi) -> None:
        self._api = api
        self.settle()

    def settle(self) -> None:
        self.writes: float = 0
        self.rows = 0
        self._calls: list[str] = []
        self._api.inbox.clear()

    @property
    def calls(self) -> list[str]:
        return sorted(self._calls)

    @property
    def frames(self) -> int:
        return len(self._api.inbox)

    def note(self, client: Any, call: Call, operation: str, asked: Any) -> Any:
        self._calls.append(operation)
        try:
            answer = call(operation, {**asked, "ReturnConsumedCapacity": "TOTAL"})
        except client.exceptions.ConditionalCheckFailedException:
            # A write that is refused is billed as well, but DynamoDB does not say so.
            self.writes += 1
            raise
        self.rows += answer.get("ScannedCount", 0)
        consumed = answer.get("ConsumedCapacity", [])
        if operation not in ("GetItem", "Query"):
            self.writes += sum(
                each["CapacityUnits"] for each in (consumed if isinstance(consumed, list) else [consumed])
            )
        return answer


@pytest.fixture
def bill(table_name: str, api: FakeWebsocketApi, monkeypatch: pytest.MonkeyPatch) -> Bill:
    bill = Bill(api)
    go_through(bill.note, monkeypatch)
    return bill


@pytest.fixture
def peal(
    bill: Bill, table_name: str, api: FakeWebsocketApi, session: boto3.session.Session, clock: Clock, jobs: FakeJobs
) -> Peal:
    """The service, watched from its first call on."""
    settings = Settings(table_name, allow_anonymous=True, anonymous_grants=EVERYTHING)
    return build(settings, api, session, clock, jobs=jobs)


@pytest.fixture
def alice(peal: Peal, api: FakeWebsocketApi) -> Client:
    return Client(peal, api, "alice=", userId="alice")


@pytest.fixture
def bob(peal: Peal, api: FakeWebsocketApi, bill: Bill) -> Client:
    """Is a member of a channel of each kind, and the bill until then is settled."""
    bob = Client(peal, api, "bob=", userId="bob")
    for channel in (LIVE, FEED, CHAT):
        bob.asks("subscribe", channel=channel)
    bill.settle()
    return bob


class TestAConnection:
    def test_connecting_is_one_write_of_two_units_with_the_index(self, bob: Client, alice: Client, bill: Bill) -> None:
        assert (bill.writes, bill.calls) == (2, ["PutItem"])

    def test_the_first_to_connect_to_a_lambda_also_writes_where_to_post(self, alice: Client, bill: Bill) -> None:
        assert (bill.writes, bill.calls) == (3, ["PutItem", "PutItem"])

    @pytest.mark.parametrize("channels", [0, 1, 10])
    def test_disconnecting_costs_two_units_and_one_for_each_channel(
        self, channels: int, alice: Client, bill: Bill
    ) -> None:
        for number in range(channels):
            alice.sends({"action": "subscribe", "channel": f"live:{number}"})
        bill.settle()
        alice.disconnects()
        assert bill.writes == 2 + channels
        assert len(bill.calls) == 1 + (channels > 0)

    def test_disconnecting_costs_one_more_later_with_leave_messages(
        self, peal: Peal, bob: Client, alice: Client, jobs: FakeJobs, bill: Bill
    ) -> None:
        alice.sends({"action": "subscribe", "channel": CHAT})
        bill.settle()
        alice.disconnects()
        assert (bill.writes, bill.rows, len(jobs.put_jobs)) == (3, 0, 1)
        for job in jobs.take():
            worker.work(peal, {"Records": [{"body": json.dumps(job)}]})
        assert (bill.writes, bill.rows, bill.frames) == (4, 2, 1)

    def test_a_heartbeat_is_one_read_and_no_frame_in_return(self, bob: Client, bill: Bill) -> None:
        bob.sends({"action": "ping"})
        assert (bill.calls, bill.frames) == (["GetItem"], 0)

    def test_a_message_to_a_user_is_one_query_more(self, bob: Client, bill: Bill) -> None:
        bob.sends({"action": "sendMessage", "targetUserId": "bob", "text": "hi"})
        assert (bill.writes, bill.calls, bill.rows, bill.frames) == (0, ["GetItem", "Query"], 1, 1)


class TestSubscribing:
    def test_costs_two_writes_without_history(self, bob: Client, alice: Client, bill: Bill) -> None:
        bill.settle()
        alice.sends({"action": "subscribe", "channel": LIVE})
        assert (bill.writes, bill.calls) == (2, ["GetItem", "GetItem", "PutItem", "UpdateItem"])

    def test_costs_four_writes_with_history_and_reads_no_history(self, bob: Client, alice: Client, bill: Bill) -> None:
        bill.settle()
        alice.sends({"action": "subscribe", "channel": FEED})
        assert bill.writes == 4
        assert bill.calls == ["GetItem"] * 3 + ["PutItem"] + ["UpdateItem"] * 3

    def test_costs_two_more_for_the_first_in_a_channel_with_history(self, alice: Client, bill: Bill) -> None:
        bill.settle()
        alice.sends({"action": "subscribe", "channel": FEED})
        assert bill.writes == 6

    def test_costs_one_more_once_the_row_is_larger_than_a_kilobyte(self, alice: Client, bill: Bill) -> None:
        name = "live:" + "x" * 100
        writes = []
        for number in range(11):
            bill.settle()
            alice.sends({"action": "subscribe", "channel": f"{name}{number}"})
            writes.append(bill.writes)
        assert (writes[0], writes[-1]) == (2, 3)

    def test_reads_what_was_missed_and_no_more(self, peal: Peal, bob: Client, alice: Client, bill: Bill) -> None:
        published = [peal.publish(FEED, number) for number in range(20)]
        bill.settle()
        position = {"epoch": published[9].epoch, "offset": published[9].offset}
        alice.sends({"action": "subscribe", "channel": FEED, "recover": position})
        assert (bill.writes, bill.rows) == (4, 10)

    def test_reads_the_members_once_to_announce_a_join(self, bob: Client, alice: Client, bill: Bill) -> None:
        bill.settle()
        alice.sends({"action": "subscribe", "channel": CHAT})
        assert (bill.writes, bill.rows, bill.frames) == (4, 2, 1)

    def test_reads_no_more_members_of_a_crowd_than_it_would_tell(
        self, peal: Peal, api: FakeWebsocketApi, bob: Client, bill: Bill, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        peal.presence_manager.limits = LIMITS._replace(told=3)
        crowd = [Client(peal, api, f"member{number}=", userId=f"u_{number}") for number in range(9)]
        for member in crowd[:-1]:
            member.sends({"action": "subscribe", "channel": CHAT})
        bill.settle()
        crowd[-1].sends({"action": "subscribe", "channel": CHAT})
        assert (bill.rows, bill.frames) == (3 + 2, 0)


class TestPublishing:
    def test_writes_nothing_without_history_and_reads_the_members(
        self, peal: Peal, api: FakeWebsocketApi, bob: Client, bill: Bill
    ) -> None:
        Client(peal, api, "carol=", userId="carol").sends({"action": "subscribe", "channel": "live:2"})
        bill.settle()
        peal.publish(LIVE, 1)
        assert (bill.writes, bill.calls, bill.rows, bill.frames) == (0, ["Query"], 1, 1)

    def test_costs_four_writes_with_history_and_reads_the_members(self, peal: Peal, bob: Client, bill: Bill) -> None:
        peal.publish(FEED, 1)
        assert (bill.writes, bill.rows, bill.frames) == (4, 1, 1)
        assert bill.calls == ["PutItem", "Query"] + ["UpdateItem"] * 3

    def test_costs_one_write_more_for_a_message_id_without_history(self, peal: Peal, bob: Client, bill: Bill) -> None:
        peal.publish(LIVE, 1, message_id="m1")
        assert bill.writes == 1

    def test_costs_three_writes_more_for_a_message_id_with_history(self, peal: Peal, bob: Client, bill: Bill) -> None:
        # A transaction, which costs twice, writes both the publication and the messageId.
        peal.publish(FEED, 1, message_id="m1")
        assert bill.writes == 7

    def test_costs_one_refused_write_for_a_repeated_message_id(self, peal: Peal, bob: Client, bill: Bill) -> None:
        peal.publish(FEED, 1, message_id="m1")
        bill.settle()
        peal.publish(FEED, 1, message_id="m1")
        assert (bill.writes, bill.frames) == (1, 0)


class TestAnSdk:
    """What a client of Centrifugo's protocol costs beyond one of action frames."""

    @pytest.fixture
    def sdk(self, bob: Client, peal: Peal, api: FakeWebsocketApi) -> Sdk:
        return Sdk(peal, api, "sdk=", userId="carol")

    def test_its_connect_writes_the_row_and_the_index_for_three_units(self, sdk: Sdk, bill: Bill) -> None:
        assert (bill.writes, bill.calls, bill.frames) == (2 + 3, ["GetItem", "PutItem", "UpdateItem"], 0)

    def test_subscribing_and_publishing_cost_the_same(self, sdk: Sdk, bill: Bill) -> None:
        for channel, writes in ((LIVE, 2), (FEED, 4), (CHAT, 4)):
            bill.settle()
            sdk.calls("subscribe", channel=channel)
            assert bill.writes == writes
        bill.settle()
        sdk.calls("publish", channel=CHAT, data=1)
        # One reply, one push to each kind of client; the members are read once.
        assert (bill.writes, bill.rows) == (4, 2)
        assert bill.calls == ["GetItem", "PutItem", "Query"] + ["UpdateItem"] * 3

    def test_many_commands_in_a_frame_are_one_read_and_one_frame_in_return(self, sdk: Sdk, bill: Bill) -> None:
        bill.settle()
        sdk.sends_commands(*[("ping", {})] * 10)
        assert (bill.calls, bill.frames) == (["GetItem"], 1)

    def test_unsubscribing_costs_the_same(self, sdk: Sdk, bill: Bill) -> None:
        sdk.calls("subscribe", channel=LIVE)
        bill.settle()
        sdk.calls("unsubscribe", channel=LIVE)
        assert (bill.writes, bill.calls) == (2, ["DeleteItem", "GetItem", "UpdateItem"])
