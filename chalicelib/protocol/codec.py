"""How what the server says is written: one codec for each protocol that clients speak. Pure.

A codec is a module; whoever sends something says it as a call of one, `lambda codec: codec.goodbye(...)`, which is made
once for each codec among the receivers. So nobody but the two routers knows what a frame looks like.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

from chalicelib.protocol import action_frames, centrifuge
from chalicelib.protocol.frame import FrameId
from chalicelib.protocol.missed import Missed
from chalicelib.protocol.publication import Position, Publication
from chalicelib.protocol.receivers import CENTRIFUGE, PEAL, Receiver


class Codec(Protocol):
    """Builds what is sent, and dumps what it has built as the text of one frame."""

    def dump(self, value: Any) -> str: ...

    def message(self, sender: Mapping[str, Any] | None, text: str | None, data: Any, time_seconds: float) -> object: ...

    def broadcast(self, note: str | None, data: Any, time_seconds: float) -> object: ...

    def publication(self, channel: str, epoch: str | None, publication: Publication) -> object: ...

    def presence_change(self, kind: str, channel: str, user_id: str, connection_id: str) -> object: ...

    def unsubscribed(self, channel: str) -> object: ...

    def goodbye(self, code: str, reason: str | None) -> object: ...

    def subscribed(
        self, reply_to: FrameId, channel: str, stream: Position | None, missed: Missed
    ) -> Iterator[object]: ...


CODECS: Final[Mapping[str, Codec]] = {PEAL: action_frames, CENTRIFUGE: centrifuge}

# What is sent, in whichever codec.
Said = Callable[[Codec], object]


def codec_of(receiver: Receiver) -> Codec:
    """What the receiver reads. A codec of a newer version, which we do not know, is taken for action frames."""
    return CODECS.get(receiver.codec, action_frames)
