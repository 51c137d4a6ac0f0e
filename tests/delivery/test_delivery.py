"""Sending one frame to many: DESIGN's promises 2 and 3, against a fake of Chalice's websocket_api."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import ClassVar

import pytest
from botocore.exceptions import ReadTimeoutError
from chalice.app import LambdaFunctionEvent
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import telemetry
from chalicelib.delivery import delivery
from chalicelib.delivery.audience import Outcome, Push
from chalicelib.delivery.delivery import Delivery
from chalicelib.errors import ConfigurationError, TableError
from chalicelib.protocol import action_frames, centrifuge
from chalicelib.protocol.codec import Codec
from chalicelib.protocol.receivers import CENTRIFUGE, Receiver
from tests.support.fakes import FakeWebsocketApi, gone, refused

pytestmark = pytest.mark.any_frames

ENDPOINT = "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/api"
WORKERS = 16
FRAME = {"type": "broadcast", "note": "é"}


def said(codec: Codec) -> object:
    """The frame, in whichever codec."""
    return FRAME


def push(text: str, exclude: str | None = None) -> Push:
    return Push(lambda codec: text, exclude)


def text_of(said: Push) -> str:
    return said.text(Receiver("c"))


class Desk:
    """A delivery, what it pruned and how long it slept."""

    def __init__(self, api: FakeWebsocketApi, resolve: Callable[[], str] = lambda: ENDPOINT) -> None:
        self.api = api
        self.pruned: list[str] = []
        self.slept: list[float] = []
        self.delivery = Delivery(api, resolve, self.pruned.append, WORKERS, self.slept.append)

    def send(self, *audience: str) -> Outcome:
        return self.delivery.send(map(Receiver, audience), said)


class TestSending:
    def test_everyone_in_the_audience_gets_the_same_text_once(self) -> None:
        desk = Desk(FakeWebsocketApi())
        receivers = [f"c{n}" for n in range(40)]
        assert desk.send(*receivers) == Outcome(sent=40)
        assert Counter(desk.api.inbox) == Counter((c, '{"type":"broadcast","note":"é"}') for c in receivers)
        assert desk.slept == []

    def test_an_audience_of_nobody_needs_no_endpoint(self) -> None:
        def unknown() -> str:
            raise AssertionError("nobody should ask")

        assert Desk(FakeWebsocketApi(), unknown).send() == Outcome()

    def test_an_audience_without_an_endpoint_is_an_error(self) -> None:
        def unknown() -> str:
            raise ConfigurationError("APIGW_MANAGEMENT_ENDPOINT", "is not set", "x")

        with pytest.raises(ConfigurationError):
            Desk(FakeWebsocketApi(), unknown).send("c")

    def test_chalice_is_told_a_domain_where_no_websocket_event_has_told_it_one(self) -> None:
        desk = Desk(FakeWebsocketApi())
        desk.send("c")
        assert desk.api.configured == [("a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com", "api")]

    def test_an_audience_is_read_while_sending_and_not_kept(self) -> None:
        api = FakeWebsocketApi()
        unsent = []

        def audience() -> Iterator[str]:
            for n in range(500):
                unsent.append(n - len(api.inbox))
                yield f"c{n}"

        assert Desk(api).delivery.send(map(Receiver, audience()), said) == Outcome(sent=500)
        assert max(unsent) <= WORKERS

    def test_every_send_knows_which_invocation_it_is_for(self) -> None:
        class Curious(FakeWebsocketApi):
            def send(self, connection_id: str, message: str) -> None:
                super().send(connection_id, str(telemetry.facts()["requestId"]))

        desk = Desk(Curious())
        event = LambdaFunctionEvent({"requestContext": {"requestId": "R1knPH17NjMFftw="}}, context=object())
        telemetry.Observer()(event, lambda _: desk.send(*(f"c{n}" for n in range(40))))
        assert {text for _, text in desk.api.inbox} == {"R1knPH17NjMFftw="}

    def test_a_slow_receiver_does_not_hold_up_the_others(self) -> None:
        others_done = threading.Event()

        class OneIsSlow(FakeWebsocketApi):
            def send(self, connection_id: str, message: str) -> None:
                if connection_id == "slow":
                    assert others_done.wait(timeout=10), "the others waited for the slow one"
                super().send(connection_id, message)
                if len(self.inbox) == 5:
                    others_done.set()

        assert Desk(OneIsSlow()).send("slow", "a", "b", "c", "d", "e") == Outcome(sent=6)

    def test_one_is_left_out_and_not_counted(self) -> None:
        desk = Desk(FakeWebsocketApi())
        assert desk.delivery.send(map(Receiver, ["a", "me", "b"]), said, exclude="me") == Outcome(sent=2)
        assert {receiver for receiver, _ in desk.api.inbox} == {"a", "b"}

    def test_an_audience_that_cannot_be_read_on_ends_it(self) -> None:
        def audience() -> Iterator[str]:
            yield from (f"c{n}" for n in range(100))
            raise TableError("Query", "InternalServerError")

        desk = Desk(FakeWebsocketApi())
        with pytest.raises(TableError):
            desk.delivery.send(map(Receiver, audience()), said)
        assert len(desk.api.inbox) >= 100 - WORKERS

    def test_what_is_said_is_made_once_for_each_codec_among_the_receivers(self) -> None:
        desk = Desk(FakeWebsocketApi())
        made: list[Codec] = []

        def goodbye(codec: Codec) -> object:
            made.append(codec)
            return codec.goodbye("closed", None)

        audience = [Receiver("a"), Receiver("b", CENTRIFUGE), Receiver("c"), Receiver("d", CENTRIFUGE)]
        one_by_one = Delivery(desk.api, lambda: ENDPOINT, lambda _: None, workers=1)
        assert one_by_one.send(audience, goodbye) == Outcome(sent=4)
        assert made == [action_frames, centrifuge]
        of_actions = '{"type":"goodbye","code":"closed","reason":null}'
        of_centrifuge = '{"push":{"disconnect":{"code":3503,"reason":"closed"}}}'
        assert desk.api.inbox == [("a", of_actions), ("b", of_centrifuge), ("c", of_actions), ("d", of_centrifuge)]

    def test_whoever_reads_a_codec_that_we_do_not_know_is_sent_action_frames(self) -> None:
        desk = Desk(FakeWebsocketApi())
        assert desk.delivery.send([Receiver("a", "newer")], said) == Outcome(sent=1)
        assert desk.api.frames("a") == [FRAME]


class TestBadReceivers:
    def test_one_that_answers_410_twice_is_pruned_and_the_others_get_their_frame(self) -> None:
        desk = Desk(FakeWebsocketApi(dead=[gone(), gone()]))
        assert desk.send("a", "dead", "b") == Outcome(sent=2, gone=1)
        assert desk.pruned == ["dead"]
        assert {receiver for receiver, _ in desk.api.inbox} == {"a", "b"}

    def test_one_that_is_pruned_is_closed_lest_it_be_there_and_unknown(self) -> None:
        api = FakeWebsocketApi(alive=[gone(), gone()], dead=[gone(), gone(), gone()], young=[gone(), gone()])
        pruning = Delivery(api, lambda: ENDPOINT, lambda receiver: receiver != "young", WORKERS, lambda _: None)
        assert pruning.send(map(Receiver, ["alive", "dead", "young"]), said) == Outcome(gone=3)
        assert sorted(api.closed) == ["alive", "young"]

    def test_one_that_cannot_be_closed_is_not_believed_gone(self, caplog: pytest.LogCaptureFixture) -> None:
        desk = Desk(FakeWebsocketApi(alive=[gone(), gone(), refused("500")]))
        assert desk.send("alive") == Outcome(failed=1)
        assert desk.pruned == []
        assert caplog.messages == ["Closing alive failed: ClientError"]

    def test_one_false_410_costs_a_moment_and_nothing_else(self) -> None:
        desk = Desk(FakeWebsocketApi(alive=[gone()]))
        assert desk.send("alive", "b") == Outcome(sent=2)
        assert desk.pruned == []
        assert desk.slept == [pytest.approx(delivery.CONFIRM_AFTER_SECONDS, abs=0.05)]

    @pytest.mark.parametrize("error", [refused("LimitExceededException"), ReadTimeoutError(endpoint_url="x")])
    def test_one_that_cannot_be_reached_has_failed_and_is_kept(self, error: Exception) -> None:
        desk = Desk(FakeWebsocketApi(bad=[error]))
        assert desk.send("a", "bad", "b") == Outcome(sent=2, failed=1)
        assert desk.pruned == []

    def test_one_that_is_due_is_asked_again_before_the_rest_of_the_audience(self) -> None:
        now = [0.0]

        def audience() -> Iterator[str]:
            yield "dead"
            yield "a"
            now[0] += delivery.CONFIRM_AFTER_SECONDS
            yield from "bcd"

        api = FakeWebsocketApi(dead=[gone()])
        one_by_one = Delivery(api, lambda: ENDPOINT, lambda _: None, 1, clock=lambda: now[0])
        assert one_by_one.send(map(Receiver, audience()), said) == Outcome(sent=5)
        assert [receiver for receiver, _ in api.inbox] == ["a", "b", "dead", "c", "d"]

    def test_one_that_fails_after_a_410_is_not_believed_gone(self) -> None:
        desk = Desk(FakeWebsocketApi(odd=[gone(), refused("500")]))
        assert desk.send("odd") == Outcome(failed=1)
        assert desk.pruned == []

    def test_a_table_that_cannot_prune_does_not_stop_the_delivery(self) -> None:
        def broken(connection_id: str) -> None:
            raise TableError("DeleteItem", "InternalServerError")

        api = FakeWebsocketApi(dead=[gone(), gone()])
        assert Delivery(api, lambda: ENDPOINT, broken, WORKERS, lambda _: None).send(
            map(Receiver, ["dead", "a"]), said
        ) == Outcome(1, 1, 0)

    def test_the_log_names_the_receiver_and_the_code_but_no_payload(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        Desk(FakeWebsocketApi(bad=[refused("ForbiddenException")])).send("bad")
        assert caplog.messages == ["Sending to bad failed: ForbiddenException"]


class TestSeveralFrames:
    """send_all: each receiver is sent them in order, up to the first it did not get."""

    PUSHES: ClassVar = [push("1"), push("2", exclude="b"), push("3")]

    def test_each_receiver_gets_them_in_order_but_those_it_is_left_out_of(self) -> None:
        desk = Desk(FakeWebsocketApi())
        assert desk.delivery.send_all(map(Receiver, ["a", "b"]), self.PUSHES) == [Outcome(2), Outcome(1), Outcome(2)]
        for receiver, texts in {"a": ['"1"', '"2"', '"3"'], "b": ['"1"', '"3"']}.items():
            assert [text for to, text in desk.api.inbox if to == receiver] == texts

    def test_who_did_not_get_one_is_not_sent_the_next(self) -> None:
        desk = Desk(FakeWebsocketApi())
        desk.api.fails["a"] = [refused("500")]
        failed: list[str] = []
        assert desk.delivery.send_all(map(Receiver, ["a", "b"]), self.PUSHES, on_failed=failed.append) == [
            Outcome(1, 0, 1),
            Outcome(0, 0, 1),
            Outcome(1, 0, 1),
        ]
        assert failed == ["a"]
        assert [to for to, _ in desk.api.inbox] == ["b", "b"]

    def test_a_410_is_asked_again_for_each_frame_anew(self) -> None:
        class Flickers(FakeWebsocketApi):
            """Says 410 to every frame once."""

            def send(self, connection_id: str, message: str) -> None:
                if message not in seen:
                    seen.add(message)
                    raise gone()
                super().send(connection_id, message)

        seen: set[str] = set()
        desk = Desk(Flickers())
        assert desk.delivery.send_all(map(Receiver, ["a"]), self.PUSHES) == [Outcome(1)] * 3
        assert [text for _, text in desk.api.inbox] == ['"1"', '"2"', '"3"']
        assert (desk.pruned, len(desk.slept)) == ([], 3)

    def test_nothing_to_send_asks_nobody(self) -> None:
        def audience() -> Iterator[str]:
            raise AssertionError("nobody should ask")
            yield

        assert Desk(FakeWebsocketApi()).delivery.send_all(map(Receiver, audience()), []) == []

    def test_what_knowing_of_a_failure_raises_ends_it(self) -> None:
        def broken(_: str) -> None:
            raise TableError("UpdateItem", "InternalServerError")

        desk = Desk(FakeWebsocketApi(a=[refused("500")]))
        with pytest.raises(TableError):
            desk.delivery.send_all(map(Receiver, ["a", "b"]), self.PUSHES, on_failed=broken)

    @given(
        st.dictionaries(
            st.sampled_from([f"c{n}" for n in range(30)]),
            st.lists(st.sampled_from(["sent", "gone", "failed", "throttled"]), max_size=8),
        ),
        st.lists(st.none() | st.sampled_from(["c0", "c1"]), max_size=4),
    )
    def test_whatever_happens_the_counts_add_up(self, fates: dict[str, list[str]], excludes: list[str | None]) -> None:
        api = Fated(fates)
        pushes = [push(str(index), exclude) for index, exclude in enumerate(excludes)]
        outcomes = Desk(api).delivery.send_all(map(Receiver, fates), pushes)
        for each, outcome in zip(pushes, outcomes, strict=True):
            assert outcome.sent + outcome.gone + outcome.failed == len(fates.keys() - {each.exclude})
            assert outcome.sent == sum(text == text_of(each) for _, text in api.inbox)


class Fated(FakeWebsocketApi):
    """Receivers whose sends go as was decided; once that is used up they are sent."""

    ERRORS: ClassVar = {
        "gone": gone(),
        "failed": ReadTimeoutError(endpoint_url="x"),
        "throttled": refused("LimitExceededException"),
    }

    def __init__(self, fates: dict[str, list[str]]) -> None:
        super().__init__()
        self.fates = {receiver: list(fate) for receiver, fate in fates.items()}

    def send(self, connection_id: str, message: str) -> None:
        fate = self.fates[connection_id]
        if fate and (error := self.ERRORS.get(fate.pop(0))):
            raise error
        super().send(connection_id, message)


class Lambda:
    """A Lambda's context with so many seconds left, on a clock that a test moves."""

    def __init__(self, seconds: float) -> None:
        self.now, self.ends_at = 0.0, seconds

    def get_remaining_time_in_millis(self) -> int:
        return int((self.ends_at - self.now) * 1000)

    def send(self, api: FakeWebsocketApi, audience: Iterable[str]) -> Outcome:
        delivery = Delivery(api, lambda: ENDPOINT, lambda _: None, WORKERS, lambda _: None, lambda: self.now)
        event = LambdaFunctionEvent({}, context=self)
        outcome: Outcome = telemetry.Observer()(event, lambda _: delivery.send(map(Receiver, audience), said))
        return outcome


class TestPatience:
    """429 beyond the tries of the client itself: that the account sends more than it may, or one reads too slowly."""

    @staticmethod
    def storm(refusals: int) -> FakeWebsocketApi:
        return FakeWebsocketApi(**{f"c{n}": [refused("LimitExceededException")] * refusals for n in range(100)})

    def send(self, api: FakeWebsocketApi, patience_seconds: float) -> tuple[Outcome, float]:
        clock = Clock()
        delivery = Delivery(api, lambda: ENDPOINT, lambda _: None, WORKERS, clock.sleep, clock)
        receivers = [Receiver(f"c{n}") for n in range(100)]
        return delivery.send(receivers, said, patience_seconds=patience_seconds), clock.now

    def test_whoever_is_refused_for_a_while_is_sent_it_once(self) -> None:
        api = self.storm(3)
        assert self.send(api, 5)[0] == Outcome(sent=100)
        assert Counter(receiver for receiver, _ in api.inbox) == {f"c{n}": 1 for n in range(100)}

    def test_whoever_is_refused_for_longer_has_failed_and_the_others_were_not_held_up(self) -> None:
        api = FakeWebsocketApi(c7=[refused("429")] * 1_000)
        outcome, seconds = self.send(api, 5)
        assert outcome == Outcome(sent=99, failed=1)
        assert 5 <= seconds < 5.5

    def test_without_it_the_first_refusal_is_the_last(self) -> None:
        api = self.storm(1)
        assert self.send(api, 0) == (Outcome(failed=100), 0)

    @pytest.mark.parametrize(
        ("fate", "outcome"),
        [
            ([gone(), refused("429"), gone()], Outcome(gone=1)),
            ([refused("429"), gone(), gone()], Outcome(gone=1)),
            ([refused("429"), gone(), refused("429")], Outcome(sent=1)),
            ([refused("429"), ReadTimeoutError(endpoint_url="x")], Outcome(failed=1)),
        ],
    )
    def test_does_not_change_what_else_is_believed(self, fate: list[Exception], outcome: Outcome) -> None:
        assert self.send(FakeWebsocketApi(c7=fate), 5)[0] == replace(outcome, sent=outcome.sent + 99)


class Clock:
    """Time that passes only while somebody sleeps, for several at once."""

    def __init__(self) -> None:
        self.now = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        with self._lock:
            self.now = max(self.now, until)


class TestTimeThatRunsOut:
    @pytest.mark.parametrize(("seconds", "for_sending"), [(60, 50), (27, 18), (3, 2)])
    def test_who_was_not_tried_by_then_has_failed_and_is_counted(self, seconds: float, for_sending: float) -> None:
        clock = Lambda(seconds)

        def audience() -> Iterator[str]:
            for n in range(1_000):
                yield f"c{n}"
                if n == 100:
                    clock.now = for_sending - 0.01
                if n == 200:
                    clock.now = for_sending

        api = FakeWebsocketApi()
        outcome = clock.send(api, audience())
        assert outcome.sent == len(api.inbox)
        assert 200 - WORKERS <= outcome.sent <= 202
        assert outcome == Outcome(sent=outcome.sent, failed=1_000 - outcome.sent)

    def test_who_was_to_be_asked_again_has_failed_too_and_is_kept(self) -> None:
        clock = Lambda(3)

        class Slow(FakeWebsocketApi):
            def send(self, connection_id: str, message: str) -> None:
                clock.now = 2
                super().send(connection_id, message)

        assert clock.send(Slow(), ["a"]) == Outcome(sent=1)
        clock.now = 0
        api = Slow(dead=[gone()])
        assert clock.send(api, ["dead"]) == Outcome(failed=1)

    def test_a_run_of_frames_has_no_other_end_than_the_lambdas(self) -> None:
        clock = Lambda(3)
        delivery = Delivery(FakeWebsocketApi(), lambda: ENDPOINT, lambda _: None, WORKERS, clock=lambda: clock.now)

        def audience() -> Iterator[str]:
            clock.now = 10
            yield from "abc"

        event = LambdaFunctionEvent({}, context=clock)
        sent = telemetry.Observer()(event, lambda _: delivery.send_all(map(Receiver, audience()), [push("1")]))
        assert sent == [Outcome(sent=3)]


class TestClosing:
    def test_a_connection_is_closed(self) -> None:
        desk = Desk(FakeWebsocketApi())
        assert desk.delivery.close("c") is True
        assert desk.api.closed == ["c"]

    def test_one_that_is_gone_already_is_no_error(self) -> None:
        assert Desk(FakeWebsocketApi(c=[gone(), gone()])).delivery.close("c") is False

    def test_that_it_is_gone_is_believed_the_second_time_only(self) -> None:
        desk = Desk(FakeWebsocketApi(c=[gone()]))
        assert desk.delivery.close("c") is True
        assert desk.api.closed == ["c"]
