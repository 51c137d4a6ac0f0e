"""Sending to one connection or many: DESIGN's promises 2 and 3, against a fake of Chalice's websocket_api."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from botocore.exceptions import ReadTimeoutError
from chalice.app import LambdaFunctionEvent

from chalicelib import telemetry
from chalicelib.delivery.delivery import CONFIRM_AFTER_SECONDS, Delivery, Outcome
from chalicelib.errors import ConfigurationError, TableError
from chalicelib.protocol import action_frames, centrifuge
from chalicelib.protocol.codec import CENTRIFUGE, Codec, Receiver
from tests.support.deliveries import ENDPOINT, FRAME, WORKERS, Outbox, said
from tests.support.fakes import FakeWebsocketApi, gone, refused

pytestmark = pytest.mark.any_frames


def unknown_endpoint() -> str:
    raise ConfigurationError("APIGW_MANAGEMENT_ENDPOINT", "is not set", "x")


class TestReply:
    def test_one_connection_is_sent_one_frame_by_the_calling_thread(self) -> None:
        threads: list[threading.Thread] = []

        class Curious(FakeWebsocketApi):
            def send(self, connection_id: str, message: str) -> None:
                super().send(connection_id, message)
                threads.append(threading.current_thread())

        outbox = Outbox(Curious())
        assert outbox.delivery.reply(Receiver("c"), FRAME) == Outcome(sent=1)
        assert outbox.api.inbox == [("c", '{"type":"broadcast","note":"é"}')]
        assert (threads, outbox.pauses) == ([threading.current_thread()], [])

    def test_several_centrifugo_replies_are_one_frame(self) -> None:
        outbox = Outbox(FakeWebsocketApi())
        lines = [{"id": 1, "ping": {}}, {"id": 2, "ping": {}}]
        assert outbox.delivery.reply(Receiver("c", CENTRIFUGE), lines) == Outcome(sent=1)
        assert outbox.api.inbox == [("c", '{"id":1,"ping":{}}\n{"id":2,"ping":{}}')]

    @pytest.mark.parametrize(
        ("answers", "outcome", "pauses", "pruned"),
        [
            ([gone()], Outcome(sent=1), 1, []),
            ([gone(), gone(), gone()], Outcome(gone=1), 1, ["c"]),
            ([gone(), gone(), refused("500")], Outcome(failed=1), 1, []),
            ([gone(), refused("429")], Outcome(failed=1), 1, []),
            ([refused("429")], Outcome(failed=1), 0, []),
            ([refused("500")], Outcome(failed=1), 0, []),
            ([ReadTimeoutError(endpoint_url="x")], Outcome(failed=1), 0, []),
        ],
    )
    def test_only_a_second_410_means_gone(
        self, answers: list[Exception], outcome: Outcome, pauses: int, pruned: list[str]
    ) -> None:
        outbox = Outbox(FakeWebsocketApi(c=list(answers)))
        assert outbox.delivery.reply(Receiver("c"), FRAME) == outcome
        assert (outbox.pauses, outbox.pruned) == ([CONFIRM_AFTER_SECONDS] * pauses, pruned)

    def test_a_false_410_twice_closes_the_connection(self) -> None:
        outbox = Outbox(FakeWebsocketApi(c=[gone(), gone()]))
        assert outbox.delivery.reply(Receiver("c"), FRAME) == Outcome(gone=1)
        assert outbox.api.closed == ["c"]

    def test_without_an_endpoint_it_is_an_error(self) -> None:
        with pytest.raises(ConfigurationError):
            Outbox(FakeWebsocketApi(), unknown_endpoint).delivery.reply(Receiver("c"), FRAME)

    def test_it_is_logged_and_counted_as_any_send_is(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, logger="chalicelib")
        outbox = Outbox(FakeWebsocketApi(c=[refused("LimitExceededException")]))
        event = LambdaFunctionEvent({}, context=object())
        telemetry.Observer()(event, lambda _: outbox.delivery.reply(Receiver("c"), FRAME))
        failure, line = caplog.records
        assert failure.getMessage() == "Sending to c failed: LimitExceededException"
        counts = line.invocation.counts  # type: ignore[attr-defined]
        assert counts.pop("DeliveryMs") > 0
        assert counts == {"ColdStarts": 1, "SendsFailed": 1, "SendsThrottled": 1}


class TestSending:
    def test_every_receiver_gets_the_same_text_once(self) -> None:
        outbox = Outbox(FakeWebsocketApi())
        receivers = [f"c{n}" for n in range(40)]
        assert outbox.send(*receivers) == Outcome(sent=40)
        assert Counter(outbox.api.inbox) == Counter((c, '{"type":"broadcast","note":"é"}') for c in receivers)
        assert outbox.pauses == []

    def test_an_empty_audience_needs_no_endpoint(self) -> None:
        assert Outbox(FakeWebsocketApi(), unknown_endpoint).send() == Outcome()

    def test_an_audience_without_an_endpoint_is_an_error(self) -> None:
        with pytest.raises(ConfigurationError):
            Outbox(FakeWebsocketApi(), unknown_endpoint).send("c")

    def test_chalice_gets_a_domain_without_a_websocket_event(self) -> None:
        outbox = Outbox(FakeWebsocketApi())
        outbox.send("c")
        assert outbox.api.configured == [("a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com", "api")]

    def test_an_audience_is_read_while_sending_and_not_kept(self) -> None:
        api = FakeWebsocketApi()
        unsent = []

        def audience() -> Iterator[str]:
            for n in range(500):
                unsent.append(n - len(api.inbox))
                yield f"c{n}"

        assert Outbox(api).delivery.send(map(Receiver, audience()), said) == Outcome(sent=500)
        assert max(unsent) <= WORKERS

    def test_every_send_knows_its_invocation(self) -> None:
        class Curious(FakeWebsocketApi):
            def send(self, connection_id: str, message: str) -> None:
                super().send(connection_id, str(telemetry.facts()["requestId"]))

        outbox = Outbox(Curious())
        event = LambdaFunctionEvent({"requestContext": {"requestId": "R1knPH17NjMFftw="}}, context=object())
        telemetry.Observer()(event, lambda _: outbox.send(*(f"c{n}" for n in range(40))))
        assert {text for _, text in outbox.api.inbox} == {"R1knPH17NjMFftw="}

    def test_a_slow_receiver_does_not_delay_the_others(self) -> None:
        others_done = threading.Event()

        class OneIsSlow(FakeWebsocketApi):
            def send(self, connection_id: str, message: str) -> None:
                if connection_id == "slow":
                    assert others_done.wait(timeout=10), "the others waited for the slow one"
                super().send(connection_id, message)
                if len(self.inbox) == 5:
                    others_done.set()

        assert Outbox(OneIsSlow()).send("slow", "a", "b", "c", "d", "e") == Outcome(sent=6)

    def test_an_excluded_connection_is_not_sent_to_nor_counted(self) -> None:
        outbox = Outbox(FakeWebsocketApi())
        assert outbox.delivery.send(map(Receiver, ["a", "me", "b"]), said, exclude="me") == Outcome(sent=2)
        assert {receiver for receiver, _ in outbox.api.inbox} == {"a", "b"}

    def test_an_audience_that_cannot_be_read_further_ends_it(self) -> None:
        def audience() -> Iterator[str]:
            yield from (f"c{n}" for n in range(100))
            raise TableError("Query", "InternalServerError")

        outbox = Outbox(FakeWebsocketApi())
        with pytest.raises(TableError):
            outbox.delivery.send(map(Receiver, audience()), said)
        assert len(outbox.api.inbox) >= 100 - WORKERS

    def test_a_frame_is_encoded_once_for_each_codec(self) -> None:
        made: list[Codec] = []

        def goodbye(codec: Codec) -> object:
            made.append(codec)
            return codec.goodbye("closed", None)

        outbox = Outbox(FakeWebsocketApi(), workers=1)
        audience = [Receiver("a"), Receiver("b", CENTRIFUGE), Receiver("c"), Receiver("d", CENTRIFUGE)]
        assert outbox.delivery.send(audience, goodbye) == Outcome(sent=4)
        assert made == [action_frames, centrifuge]
        of_actions = '{"type":"goodbye","code":"closed","reason":null}'
        of_centrifuge = '{"push":{"disconnect":{"code":3503,"reason":"closed"}}}'
        assert outbox.api.inbox == [("a", of_actions), ("b", of_centrifuge), ("c", of_actions), ("d", of_centrifuge)]

    def test_a_receiver_of_an_unknown_codec_is_sent_action_frames(self) -> None:
        outbox = Outbox(FakeWebsocketApi())
        assert outbox.delivery.send([Receiver("a", "newer")], said) == Outcome(sent=1)
        assert outbox.api.frames("a") == [FRAME]


class TestBadReceivers:
    def test_one_that_answers_410_twice_is_pruned(self) -> None:
        outbox = Outbox(FakeWebsocketApi(dead=[gone(), gone()]))
        assert outbox.send("a", "dead", "b") == Outcome(sent=2, gone=1)
        assert outbox.pruned == ["dead"]
        assert {receiver for receiver, _ in outbox.api.inbox} == {"a", "b"}

    def test_one_that_is_pruned_is_closed_in_case_it_is_alive(self) -> None:
        api = FakeWebsocketApi(alive=[gone(), gone()], dead=[gone(), gone(), gone()], young=[gone(), gone()])
        pruning = Delivery(api, lambda: ENDPOINT, lambda receiver: receiver != "young", WORKERS, lambda _: None)
        assert pruning.send(map(Receiver, ["alive", "dead", "young"]), said) == Outcome(gone=3)
        assert sorted(api.closed) == ["alive", "young"]

    def test_one_that_cannot_be_closed_is_not_believed_gone(self, caplog: pytest.LogCaptureFixture) -> None:
        outbox = Outbox(FakeWebsocketApi(alive=[gone(), gone(), refused("500")]))
        assert outbox.send("alive") == Outcome(failed=1)
        assert outbox.pruned == []
        assert caplog.messages == ["Closing alive failed: ClientError"]

    def test_one_false_410_costs_a_pause_and_nothing_else(self) -> None:
        outbox = Outbox(FakeWebsocketApi(alive=[gone()]))
        assert outbox.send("alive", "b") == Outcome(sent=2)
        assert (outbox.pruned, outbox.pauses) == ([], [CONFIRM_AFTER_SECONDS])

    @pytest.mark.parametrize("error", [refused("LimitExceededException"), ReadTimeoutError(endpoint_url="x")])
    def test_one_that_cannot_be_reached_has_failed_and_is_kept(self, error: Exception) -> None:
        outbox = Outbox(FakeWebsocketApi(bad=[error]))
        assert outbox.send("a", "bad", "b") == Outcome(sent=2, failed=1)
        assert outbox.pruned == []

    def test_one_that_fails_after_a_410_is_not_believed_gone(self) -> None:
        outbox = Outbox(FakeWebsocketApi(odd=[gone(), refused("500")]))
        assert outbox.send("odd") == Outcome(failed=1)
        assert outbox.pruned == []

    def test_a_table_that_cannot_prune_does_not_stop_the_delivery(self) -> None:
        def broken(connection_id: str) -> None:
            raise TableError("DeleteItem", "InternalServerError")

        api = FakeWebsocketApi(dead=[gone(), gone()])
        delivery = Delivery(api, lambda: ENDPOINT, broken, WORKERS, lambda _: None)
        assert delivery.send(map(Receiver, ["dead", "a"]), said) == Outcome(1, 1, 0)

    def test_the_log_names_receiver_and_code_but_no_payload(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        Outbox(FakeWebsocketApi(bad=[refused("ForbiddenException")])).send("bad")
        assert caplog.messages == ["Sending to bad failed: ForbiddenException"]


class TestClosing:
    def test_a_connection_is_closed(self) -> None:
        outbox = Outbox(FakeWebsocketApi())
        assert outbox.delivery.close("c") is True
        assert outbox.api.closed == ["c"]

    @pytest.mark.parametrize("ask", [Delivery.close, Delivery.is_open])
    def test_a_connection_that_is_gone_already_is_no_error(self, ask: Callable[[Delivery, str], bool]) -> None:
        assert ask(Outbox(FakeWebsocketApi(c=[gone(), gone()])).delivery, "c") is False

    @pytest.mark.parametrize("ask", [Delivery.close, Delivery.is_open])
    def test_that_it_is_gone_is_believed_the_second_time_only(self, ask: Callable[[Delivery, str], bool]) -> None:
        outbox = Outbox(FakeWebsocketApi(c=[gone()]))
        assert ask(outbox.delivery, "c") is True
        assert outbox.pauses == [0, CONFIRM_AFTER_SECONDS]
