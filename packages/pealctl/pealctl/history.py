"""The publications of a channel with history: the last ones, all of them, and new ones as they arrive.

Invariant: publications come in the order of their offsets, each once, and missing ones are reported.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final

from pealctl.api import Api, Json, pause_seconds
from pealctl.errors import CommandError, Unavailable

# The most publications that the API returns at once.
PAGE: Final = 1_000
POLL_SECONDS: Final = 1.0

Note = Callable[[str], None]


def read_last(api: Api, channel: str, count: int) -> tuple[Json, list[Json]]:
    """Return the channel's position (epoch and offset) and its last `count` publications, oldest first."""
    page = top = _page(api, channel, min(count, PAGE), reverse=True)
    newest_first: list[Json] = page["publications"]
    while page["publications"] and len(newest_first) < count:
        since = {"epoch": page["epoch"], "offset": newest_first[-1]["offset"]}
        page = _page(api, channel, min(count - len(newest_first), PAGE), since, reverse=True)
        newest_first = newest_first + page["publications"]
    return top, [_as_push(channel, top["epoch"], one) for one in reversed(newest_first)]


def read_all(api: Api, channel: str) -> Iterator[Json]:
    """Yield all that the channel keeps, oldest first, a page at a time."""
    since = None
    while True:
        page = _page(api, channel, PAGE, since)
        if not page["publications"]:
            return
        for one in page["publications"]:
            yield _as_push(channel, page["epoch"], one)
        since = {"epoch": page["epoch"], "offset": page["publications"][-1]["offset"]}


def follow(
    api: Api, channel: str, since: Json, note: Note, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Json]:
    """Yield what is published after `since`, without end, even if the stage does not answer for a while.

    Args:
        api: of the stage.
        channel: one with history.
        since: an epoch and an offset.
        note: is called with a sentence when the stage stops answering, when it answers again, and for missing offsets.
        sleep: waits that many seconds.

    Raises:
        CommandError: the channel may not be read, or no longer.
    """
    epoch, offset = since["epoch"], since["offset"]
    failures = 0
    while True:
        try:
            page = _page_after(api, channel, epoch, offset)
        except Unavailable as error:
            if not failures:
                note(f"{error} Still trying.")
            failures += 1
            sleep(pause_seconds(failures))
            continue
        if failures:
            note("The stage answers again.")
            failures = 0
        if page["epoch"] != epoch:
            epoch, offset = page["epoch"], 0
            note(f"{channel} has started again: epoch {epoch}.")
            continue
        for one in page["publications"]:
            if one["offset"] > offset + 1:
                note(f"{_numbers(offset + 1, one['offset'] - 1)} missing: never used, or no longer kept.")
            offset = one["offset"]
            yield _as_push(channel, epoch, one)
        if not page["publications"]:
            sleep(POLL_SECONDS)


def _page_after(api: Api, channel: str, epoch: str, offset: int) -> Json:
    """Return what follows; if that epoch has ended, an empty page of the current one."""
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
    """Return the publication as members received it."""
    return {"type": "publication", "channel": channel, "epoch": epoch, **publication}


def _numbers(first: int, last: int) -> str:
    return f"Offset {first} is" if first == last else f"Offsets {first} to {last} are"
