"""The gateway's log: one line for each invocation and each REST request, on stderr."""

import logging
import sys

LOGGER = logging.getLogger("localgateway")


def log_to_stderr() -> None:
    """Write the log to stderr, with the time of day; once, however often it is called."""
    if LOGGER.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(message)s", "%H:%M:%S"))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
