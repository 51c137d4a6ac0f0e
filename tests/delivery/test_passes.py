"""Audiences in two passes: which receivers are retried and when, several pushes to each, 429, and deadlines."""

import threading
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

import pytest
from botocore.exceptions import ReadTimeoutError
from chalice.app import LambdaFunctionEvent
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import telemetry
from chalicelib.delivery.delivery import CONFIRM_AFTER_SECONDS, Delivery, Outcome
from chalicelib.errors import TableError
from chalicelib.protocol.codec import Receiver
from tests.support.deliveries import ENDPOINT, WORKERS, Lambda, Outbox, push, said
from tests.support.fakes import FakeWebsocketApi, gone, refused

pytestmark = pytest.mark.any_frames


class TestSecondPass:
    def test_doubted_receivers_are_asked_again_after_all_others(self) -> None:
        outbox = Outbox(FakeWebsocketApi(dead=[gone()], x=[gone()]), workers=1)
        assert outbox.send("dead", "a", "x", "b") == Outcome(sent=4)
        assert [receiver for receiver, _ in outbox.api.inbox] == ["a", "b", "dead", "x"]
        assert outbox.pauses == [CONFIRM_AFTER_SECONDS]

    def test_only_so_many_doubted_are_kept_while_the_rest_waits(self) -> None:
        api = FakeWebsocketApi(**{f"dead{n}": [gone()] for n in range(5)})
        outbox = Outbox(api, workers=1, max_doubted=2)
        assert outbox.send("dead0", "a", "dead1", "b", "dead2", "dead3", "c", "dead4") == Outcome(sent=8)
        assert [receiver for receiver, _ in api.inbox] == ["a", "dead0", "dead1", "b", "dead2", "dead3", "c", "dead4"]
        assert len(outbox.pauses) == 3

    def test_a_slow_receiver_does_not_delay_the_second_pass(self) -> None:
        confirmed = threading.Event()

        class OneIsSlow(FakeWebsocketApi):
            def send(self, connection_id: str, message: str) -> None:
                if connection_id == "slow":
                    assert confirmed.wait(timeout=10), "the doubted one waited for the slow one"
                super().send(connection_id, message)
                if connection_id == "doubted":
                    confirmed.set()

        assert Outbox(OneIsSlow(doubted=[gone()])).send("slow", "doubted") == Outcome(sent=2)

    def test_a_receiver_doubted_during_a_pause_gets_one_of_its_own(self) -> None:
        # "late" answers while the first doubted receiver is in its pause.
        pausing, late_answered = threading.Event(), threading.Event()

        class LateAnswers(FakeWebsocketApi):
            def send(self, connection_id: str, message: str) -> None:
                if connection_id == "late" and not late_answered.is_set():
                    assert pausing.wait(timeout=10)
                    late_answered.set()
                super().send(connection_id, message)

        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            pausing.set()
            assert late_answered.wait(timeout=10)

        api = LateAnswers(dead=[gone()], late=[gone()])
        delivery = Delivery(api, lambda: ENDPOINT, lambda _: None, 2, pause)
        assert delivery.send(map(Receiver, ["late", "dead"]), said) == Outcome(sent=2)
        assert pauses == [CONFIRM_AFTER_SECONDS] * 2


class TestSeveralPushes:
    """send_all: each receiver is sent them in order, up to the first that it does not get."""

    PUSHES: ClassVar = [push("1"), push("2", exclude="b"), push("3")]

    def test_receivers_get_them_in_order_except_the_excluded(self) -> None:
        outbox = Outbox(FakeWebsocketApi())
        outcomes = outbox.delivery.send_all(map(Receiver, ["a", "b"]), self.PUSHES)
        assert outcomes == [Outcome(2), Outcome(1), Outcome(2)]
        for receiver, texts in {"a": ['"1"', '"2"', '"3"'], "b": ['"1"', '"3"']}.items():
            assert [text for to, text in outbox.api.inbox if to == receiver] == texts

    def test_a_receiver_whose_push_failed_is_sent_no_later_one(self) -> None:
        outbox = Outbox(FakeWebsocketApi(a=[refused("500")]))
        failed: list[str] = []
        assert outbox.delivery.send_all(map(Receiver, ["a", "b"]), self.PUSHES, on_failed=failed.append) == [
            Outcome(1, 0, 1),
            Outcome(0, 0, 1),
            Outcome(1, 0, 1),
        ]
        assert failed == ["a"]
        assert [to for to, _ in outbox.api.inbox] == ["b", "b"]

    def test_a_gone_receiver_is_reported_once_and_has_not_failed(self) -> None:
        outbox = Outbox(FakeWebsocketApi(a=[gone()] * 3))
        failed: list[str] = []
        gone_ones: list[str] = []
        assert outbox.delivery.send_all(
            map(Receiver, ["a", "b"]), self.PUSHES, on_gone=gone_ones.append, on_failed=failed.append
        ) == [Outcome(1, 1, 0), Outcome(0, 1, 0), Outcome(1, 1, 0)]
        assert (gone_ones, failed) == (["a"], [])

    def test_a_410_is_confirmed_for_each_push_anew(self) -> None:
        class Flickers(FakeWebsocketApi):
            """Says 410 to every frame once."""

            def send(self, connection_id: str, message: str) -> None:
                if message not in seen:
                    seen.add(message)
                    raise gone()
                super().send(connection_id, message)

        seen: set[str] = set()
        outbox = Outbox(Flickers())
        assert outbox.delivery.send_all(map(Receiver, ["a"]), self.PUSHES) == [Outcome(1)] * 3
        assert [text for _, text in outbox.api.inbox] == ['"1"', '"2"', '"3"']
        assert (outbox.pruned, len(outbox.pauses)) == ([], 3)

    def test_without_a_push_no_audience_is_read(self) -> None:
        def audience() -> Iterator[str]:
            raise AssertionError("it was read")
            yield

        assert Outbox(FakeWebsocketApi()).delivery.send_all(map(Receiver, audience()), []) == []

    def test_what_on_failed_raises_ends_the_sending(self) -> None:
        def broken(_: str) -> None:
            raise TableError("UpdateItem", "InternalServerError")

        outbox = Outbox(FakeWebsocketApi(a=[refused("500")]))
        with pytest.raises(TableError):
            outbox.delivery.send_all(map(Receiver, ["a", "b"]), self.PUSHES, on_failed=broken)

    @pytest.mark.slow
    @given(
        st.dictionaries(
            st.sampled_from([f"c{n}" for n in range(30)]),
            st.lists(st.sampled_from(["sent", "gone", "failed", "throttled"]), max_size=8),
        ),
        st.lists(st.none() | st.sampled_from(["c0", "c1"]), max_size=4),
        st.integers(1, 3) | st.just(5_000),
    )
    def test_whatever_happens_the_counts_add_up(
        self, fates: dict[str, list[str]], excludes: list[str | None], max_doubted: int
    ) -> None:
        api = Fated(fates)
        pushes = [push(str(index), exclude) for index, exclude in enumerate(excludes)]
        outcomes = Outbox(api, max_doubted=max_doubted).delivery.send_all(map(Receiver, fates), pushes)
        for each, outcome in zip(pushes, outcomes, strict=True):
            assert outcome.sent + outcome.gone + outcome.failed == len(fates.keys() - {each.exclude})
            assert outcome.sent == sum(text == each.text(Receiver("c")) for _, text in api.inbox)


class Fated(FakeWebsocketApi):
    """Receivers that answer as decided; once that is used up, every send succeeds."""

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


class TestPatience:
    """429 beyond the client's own tries: the account is over its quota, or one client reads too slowly.

    One thread, so that the fake time is exact.
    """

    CROWD: ClassVar = [f"c{n}" for n in range(100)]

    def test_receivers_refused_for_a_while_are_sent_it_once(self) -> None:
        api = FakeWebsocketApi(**{c: [refused("LimitExceededException")] * 3 for c in self.CROWD})
        outbox = Outbox(api, workers=1)
        assert outbox.send(*self.CROWD, patience_seconds=5) == Outcome(sent=100)
        assert Counter(receiver for receiver, _ in api.inbox) == dict.fromkeys(self.CROWD, 1)
        assert outbox.pauses == [CONFIRM_AFTER_SECONDS] * 3

    def test_one_refused_for_longer_fails_and_delays_no_other(self) -> None:
        class Timed(FakeWebsocketApi):
            def send(self, connection_id: str, message: str) -> None:
                super().send(connection_id, message)
                sent_after.append(sum(outbox.pauses))

        sent_after: list[float] = []
        outbox = Outbox(Timed(c7=[refused("429")] * 1_000), workers=1)
        assert outbox.send(*self.CROWD, patience_seconds=5) == Outcome(sent=99, failed=1)
        assert set(sent_after) == {0}
        assert 5 <= sum(outbox.pauses) < 5.5

    def test_without_patience_the_first_refusal_is_the_last(self) -> None:
        outbox = Outbox(FakeWebsocketApi(**{c: [refused("LimitExceededException")] for c in self.CROWD}))
        assert outbox.send(*self.CROWD) == Outcome(failed=100)
        assert outbox.pauses == []

    @pytest.mark.parametrize(
        ("fate", "outcome"),
        [
            ([gone(), refused("429"), gone()], Outcome(gone=1)),
            ([refused("429"), gone(), gone()], Outcome(gone=1)),
            ([refused("429"), gone(), refused("429")], Outcome(sent=1)),
            ([refused("429"), ReadTimeoutError(endpoint_url="x")], Outcome(failed=1)),
        ],
    )
    def test_other_answers_mean_what_they_always_mean(self, fate: list[Exception], outcome: Outcome) -> None:
        outbox = Outbox(FakeWebsocketApi(c7=list(fate)), workers=1)
        assert outbox.send(*self.CROWD, patience_seconds=5) == outcome._replace(sent=outcome.sent + 99)


class TestTimeThatRunsOut:
    @pytest.mark.parametrize(("seconds", "for_sending"), [(60, 50), (27, 18), (3, 2)])
    def test_receivers_not_tried_by_then_have_failed(self, seconds: float, for_sending: float) -> None:
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

    def test_receivers_doubted_by_then_have_failed_and_are_kept(self) -> None:
        clock = Lambda(3)

        class Slow(FakeWebsocketApi):
            def send(self, connection_id: str, message: str) -> None:
                clock.now = 2
                super().send(connection_id, message)

        assert clock.send(Slow(), ["a"]) == Outcome(sent=1)
        clock.now = 0
        api = Slow(dead=[gone()])
        assert clock.send(api, ["dead"]) == Outcome(failed=1)
        assert api.closed == []

    def test_several_pushes_have_no_deadline_of_their_own(self) -> None:
        clock = Lambda(3)
        delivery = clock.delivery(FakeWebsocketApi())

        def audience() -> Iterator[str]:
            clock.now = 10
            yield from "abc"

        event = LambdaFunctionEvent({}, context=clock)
        sent = telemetry.Observer()(event, lambda _: delivery.send_all(map(Receiver, audience()), [push("1")]))
        assert sent == [Outcome(sent=3)]
