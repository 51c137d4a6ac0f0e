"""Log lines: one JSON object each on AWS, where an invocation's line also holds its metrics; plain text locally.

The metrics are in CloudWatch's embedded metric format: the line names those of its fields that CloudWatch counts.
Invariants: one event is one line. An exception that is not Peal's own is logged by name and stack only, because its
message may quote what a client sent. LOG_LEVEL does not apply to libraries, whose DEBUG output holds whole requests.
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
# How many causes of an exception are logged, and how many of each one's innermost calls: enough to find the place.
MAX_CAUSES: Final = 8
MAX_CALLS: Final = 20


def configure(settings: Settings, own: Iterable[str] = (), stream: TextIO | None = None) -> None:
    """Set up logging for this process.

    JSON is written by our handler, which replaces that of Lambda's runtime; text by the handlers that are there.

    Args:
        own: loggers, beside chalicelib's, to which LOG_LEVEL applies; all others log from WARNING on.
        stream: where JSON goes; by default stdout, from which Lambda reads metrics too.
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
    # Its lines hold the metrics, which must not depend on LOG_LEVEL.
    telemetry.log.setLevel(logging.INFO if is_json else logging.NOTSET)


class JsonFormatter(logging.Formatter):
    """Write records as JSON, with the facts of the invocation; metrics have the dimension Stage."""

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
            {"Name": name, "Unit": "Milliseconds" if name.endswith("Ms") else "Count"} for name in invocation.counts
        ]
        directive = {"Namespace": NAMESPACE, "Dimensions": [["Stage"]], "Metrics": metrics}
        return {
            "Stage": self._stage,
            **invocation.counts,
            "_aws": {"Timestamp": int(time_seconds * 1000), "CloudWatchMetrics": [directive]},
        }


def stack(failure: BaseException) -> str:
    """Return the exception and its causes, each with its innermost calls; messages of our own exceptions only."""
    parts: list[str] = []
    cause: BaseException | None = failure
    while cause is not None and len(parts) < MAX_CAUSES:
        message = f": {cause}" if isinstance(cause, ServiceError | ConfigurationError) else ""
        calls = [
            f"\n  {frame.f_code.co_filename}:{line} {frame.f_code.co_name}"
            for frame, line in traceback.walk_tb(cause.__traceback__)
        ]
        parts.append(type(cause).__name__ + message + "".join(calls[-MAX_CALLS:]))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\ncaused by ".join(parts)
