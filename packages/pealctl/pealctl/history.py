"""What was published in a channel that keeps it: the last ones, all of them, and what comes from now on.

Invariant: publications come in the order of their offsets, each once, and where some are missing that is said.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final

from pealctl.api import Api, Json, pause_seconds
from pealctl.errors import CommandError, Unavailable

# What one page has at most.
PAGE: Final = 1_000
POLL_SECONDS: Final = 1.0

Tell = Callable[[str], None]


def read_last(api: Api, channel: str, count: int) -> tuple[Json, list[Json]]:
    """Where the channel stands (its epoch and offset) and its last `count` publications, oldest first."""
    page = top = _page(api, channel, min(count, PAGE), reverse=True)
    newest_first: list[Json] = page["publications"]
    while page["publications"] and len(newest_first) < count:
        since = {"epoch": page["epoch"], "offset": newest_first[-1]["offset"]}
        page = _page(api, channel, min(count - len(newest_first), PAGE), since, reverse=True)
        newest_first = newest_first + page["publications"]
    return top, [_as_push(channel, top["epoch"], one) for one in reversed(newest_first)]


def read_all(api: Api, channel: str) -> Iterator[Json]:
    """All that the channel keeps, oldest first, read as it is asked for."""
    since = None
    while True:
        page = _page(api, channel, PAGE, since)
        if not page["publications"]:
            return
        for one in page["publications"]:
            yield _as_push(channel, page["epoch"], one)
        since = {"epoch": page["epoch"], "offset": page["publications"][-1]["offset"]}


def follow(
    api: Api, channel: str, since: Json, tell: Tell, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Json]:
    """What is published after `since`, without end, also when nobody answers for a while.

    Args:
        api: of the stage.
        channel: one that keeps what is published.
        since: an epoch and an offset.
        tell: is told when nobody answers, when somebody does again, and what is missing.
        sleep: waits so many seconds.

    Raises:
        CommandError: it may not be read (any more).
    """
    epoch, offset = since["epoch"], since["offset"]
    failures = 0
    while True:
        try:
            page = _page_after(api, channel, epoch, offset)
        except Unavailable as error:
            if not failures:
                tell(f"{error} Trying on.")
            failures += 1
            sleep(pause_seconds(failures))
            continue
        if failures:
            tell("It answers again.")
            failures = 0
        if page["epoch"] != epoch:
            epoch, offset = page["epoch"], 0
            tell(f"{channel} has begun anew: epoch {epoch}.")
            continue
        for one in page["publications"]:
            if one["offset"] > offset + 1:
                tell(f"{_numbers(offset + 1, one['offset'] - 1)} not there: never used, or not kept any more.")
            offset = one["offset"]
            yield _as_push(channel, epoch, one)
        if not page["publications"]:
            sleep(POLL_SECONDS)


def _page_after(api: Api, channel: str, epoch: str, offset: int) -> Json:
    """What follows; an empty page of another epoch where that one is over."""
    try:
        return _page(api, channel, PAGE, {"epoch": epoch, "offset": offset})
    except Unavailable:
        raise
    except CommandError:
        page = _page(api, channel, 0)
        if page["epoch"] == epoch:
            raise
        return page


def _page(api: Api, channel: str, limit: int, since: Json | None = None, *, reverse: bool = False) -> Json:
    position = since or {}
    return api.get(
        "channels",
        channel,
        "history",
        limit=limit,
        epoch=position.get("epoch"),
        offset=position.get("offset"),
        reverse="true" if reverse else None,
    )


def _as_push(channel: str, epoch: str, publication: Json) -> Json:
    """The publication as members were sent it."""
    return {"type": "publication", "channel": channel, "epoch": epoch, **publication}


def _numbers(first: int, last: int) -> str:
    return f"Offset {first} is" if first == last else f"Offsets {first} to {last} are"
