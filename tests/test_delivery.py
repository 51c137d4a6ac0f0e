"""Sending one frame to many: DESIGN's promises 2 and 3, against a fake of Chalice's websocket_api."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from botocore.exceptions import ReadTimeoutError
from chalice.app import LambdaFunctionEvent

from chalicelib import delivery, telemetry
from chalicelib.delivery import Delivery, Outcome
from chalicelib.errors import ConfigurationError, TableError
from tests.fakes import FakeWebsocketApi, gone, refused

ENDPOINT = "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/api"
FRAME = {"type": "broadcast", "note": "é"}


class Desk:
    """A delivery, what it pruned and how long it slept."""

    def __init__(self, api: FakeWebsocketApi, resolve: Callable[[], str] = lambda: ENDPOINT) -> None:
        self.api = api
        self.pruned: list[str] = []
        self.slept: list[float] = []
        self.delivery = Delivery(api, resolve, self.pruned.append, self.slept.append)

    def send(self, *audience: str) -> Outcome:
        return self.delivery.send(iter(audience), FRAME)


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

    def test_an_audience_is_read_while_sending_and_not_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(delivery, "BATCH", 16)
        api = FakeWebsocketApi()
        unsent = []

        def audience() -> Iterator[str]:
            for n in range(50):
                unsent.append(n - len(api.inbox))
                yield f"c{n}"

        assert Desk(api).delivery.send(audience(), FRAME) == Outcome(sent=50)
        assert max(unsent) < 16

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


class TestBadReceivers:
    def test_one_that_answers_410_twice_is_pruned_and_the_others_get_their_frame(self) -> None:
        desk = Desk(FakeWebsocketApi(dead=[gone(), gone()]))
        assert desk.send("a", "dead", "b") == Outcome(sent=2, gone=1)
        assert desk.pruned == ["dead"]
        assert {receiver for receiver, _ in desk.api.inbox} == {"a", "b"}

    def test_one_false_410_costs_a_moment_and_nothing_else(self) -> None:
        desk = Desk(FakeWebsocketApi(alive=[gone()]))
        assert desk.send("alive", "b") == Outcome(sent=2)
        assert desk.pruned == []
        assert desk.slept == [delivery.CONFIRM_AFTER_SECONDS]

    @pytest.mark.parametrize("error", [refused("LimitExceededException"), ReadTimeoutError(endpoint_url="x")])
    def test_one_that_cannot_be_reached_has_failed_and_is_kept(self, error: Exception) -> None:
        desk = Desk(FakeWebsocketApi(bad=[error]))
        assert desk.send("a", "bad", "b") == Outcome(sent=2, failed=1)
        assert desk.pruned == []

    def test_one_that_fails_after_a_410_is_not_believed_gone(self) -> None:
        desk = Desk(FakeWebsocketApi(odd=[gone(), refused("500")]))
        assert desk.send("odd") == Outcome(failed=1)
        assert desk.pruned == []

    def test_a_table_that_cannot_prune_does_not_stop_the_delivery(self) -> None:
        def broken(connection_id: str) -> None:
            raise TableError("DeleteItem", "InternalServerError")

        api = FakeWebsocketApi(dead=[gone(), gone()])
        assert Delivery(api, lambda: ENDPOINT, broken, lambda _: None).send(["dead", "a"], FRAME) == Outcome(1, 1, 0)

    def test_the_log_names_the_receiver_and_the_code_but_no_payload(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        Desk(FakeWebsocketApi(bad=[refused("ForbiddenException")])).send("bad")
        assert caplog.messages == ["Sending to bad failed: ForbiddenException"]


class TestClosing:
    def test_a_connection_is_closed(self) -> None:
        desk = Desk(FakeWebsocketApi())
        assert desk.delivery.close("c") is True
        assert desk.api.closed == ["c"]

    def test_one_that_is_gone_already_is_no_error(self) -> None:
        assert Desk(FakeWebsocketApi(c=[gone()])).delivery.close("c") is False
