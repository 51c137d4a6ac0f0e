"""Jobs at the worker's door; the queue they come from is tested in tests/aws/test_queue.py."""

import json
import logging
from typing import Any

import pytest

from chalicelib.errors import TableError
from chalicelib.handlers import jobs as worker
from chalicelib.peal import Peal


def event(*bodies: Any) -> dict[str, Any]:
    return {"Records": [{"body": body if isinstance(body, str | None) else json.dumps(body)} for body in bodies]}


class TestTheWorker:
    @pytest.mark.parametrize(
        ("body", "why"),
        [
            ("{", "job must be one of advance, broadcast, close, leave, publication."),
            ("[]", "job must be one of advance, broadcast, close, leave, publication."),
            (None, "job must be one of advance, broadcast, close, leave, publication."),
            ({"job": "dance"}, "job must be one of advance, broadcast, close, leave, publication."),
            ({"job": "advance", "channel": "chat:1"}, "shard must be a whole number."),
            ({"job": "advance", "channel": "chat:1", "shard": -1}, "shard must be a whole number."),
            ({"job": "advance", "shard": 0}, "channel must be a string."),
            ({"job": "advance", "channel": "gone:1", "shard": 0}, "channel must be in one of the namespaces"),
            ({"job": "leave", "channel": "chat:1", "connectionId": "c="}, "userId must be a string."),
            ({"job": "leave", "channel": "chat:1", "userId": "u"}, "connectionId must be a string."),
        ],
    )
    def test_an_impossible_job_is_dropped_and_the_others_are_done(
        self, peal: Peal, caplog: pytest.LogCaptureFixture, body: Any, why: str
    ) -> None:
        done: list[str] = []
        good = {"job": "advance", "channel": "chat:1", "shard": 0}
        with caplog.at_level(logging.ERROR), pytest.MonkeyPatch.context() as patch:
            worker.work(peal, event(body))
            assert f"Dropped a job that cannot be done: {why}" in caplog.text
            patch.setattr(peal.sequencer, "resume", lambda channel, shard: done.append(channel.name))
            worker.work(peal, event("{", good))
        assert done == ["chat:1"]

    def test_a_failed_job_raises_so_that_it_is_retried(self, peal: Peal, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise TableError("Query", "InternalServerError")

        monkeypatch.setattr(peal.sequencer, "resume", fail)
        with pytest.raises(TableError):
            worker.work(peal, event({"job": "advance", "channel": "chat:1", "shard": 0}))
