"""Log lines: one JSON object each on AWS, where an invocation's own line is also its metrics; plain text on the desk.

The metrics are CloudWatch's embedded metric format: the line names those of its fields that CloudWatch shall count.
Invariants: one event is one line; of an exception that Peal did not raise itself only the name and the stack are
told, for its message may quote what a client sent; LOG_LEVEL never makes libraries talk, who would tell requests.
"""

import json
import logging
import sys
import traceback
from collections.abc import Iterable
from typing import Any, Final, TextIO

from chalicelib import telemetry
from chalicelib.errors import ConfigurationError, ServiceError
from chalicelib.protocol.frame import timestamp
from chalicelib.settings import Settings

NAMESPACE: Final = "Peal"
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
# An exception and what led to it, the innermost calls of each: enough to find the place, and no endless recursion.
MAX_CAUSES: Final = 8
MAX_CALLS: Final = 20


def configure(settings: Settings, own: Iterable[str] = (), stream: TextIO | None = None) -> None:
    """Every log line of this process looks as the settings say.

    As JSON it is written by one handler, ours, instead of the one that Lambda's runtime has set up. As text it is
    left to the handlers that are there.

    Args:
        settings: log_format, log_level and stage.
        own: the loggers, beside chalicelib's, that LOG_LEVEL is for; all others log from WARNING on.
        stream: where JSON goes, default stdout, from which Lambda takes metrics too.
    """
    is_json = settings.log_format == "json"
    if is_json:
        handler = logging.StreamHandler(stream or sys.stdout)
        handler.setFormatter(JsonFormatter(settings.stage))
        logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    else:
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for name in ("chalicelib", *own):
        logging.getLogger(name).setLevel(settings.log_level)
    # Its lines are metrics, which must not depend on how much one wants to read.
    telemetry.log.setLevel(logging.INFO if is_json else logging.NOTSET)


class JsonFormatter(logging.Formatter):
    """Writes records as JSON, with what is known of the invocation; metrics carry the dimension Stage."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self._stage = stage

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"time": timestamp(record.created), "level": record.levelname}
        invocation = getattr(record, "invocation", None)
        if isinstance(invocation, telemetry.Invocation):
            line |= {"message": "invocation", **invocation.facts, **self._embedded(invocation, record.created)}
        else:
            line |= {"message": record.getMessage(), "logger": record.name, **telemetry.facts()}
        if record.exc_info and record.exc_info[1]:
            line["stack"] = stack(record.exc_info[1])
        return _encode(line)

    def _embedded(self, invocation: telemetry.Invocation, time_seconds: float) -> dict[str, Any]:
        if not invocation.counts:
            return {}
        metrics = [
            {"Name": metric, "Unit": "Milliseconds" if metric.endswith("Ms") else "Count"}
            for metric in invocation.counts
        ]
        directive = {"Namespace": NAMESPACE, "Dimensions": [["Stage"]], "Metrics": metrics}
        return {
            "Stage": self._stage,
            **invocation.counts,
            "_aws": {"Timestamp": int(time_seconds * 1000), "CloudWatchMetrics": [directive]},
        }


def stack(failure: BaseException) -> str:
    """The exception with the calls that led to it, then the same of what caused it; messages of our own ones only."""
    parts: list[str] = []
    cause: BaseException | None = failure
    while cause is not None and len(parts) < MAX_CAUSES:
        said = f": {cause}" if isinstance(cause, ServiceError | ConfigurationError) else ""
        calls = [
            f"\n  {frame.f_code.co_filename}:{line} {frame.f_code.co_name}"
            for frame, line in traceback.walk_tb(cause.__traceback__)
        ]
        parts.append(type(cause).__name__ + said + "".join(calls[-MAX_CALLS:]))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\ncaused by ".join(parts)
