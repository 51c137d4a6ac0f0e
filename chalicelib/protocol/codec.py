"""The two protocols that clients speak, side by side: reading a text of either, and writing what the server says. Pure.

A codec is a module. A caller says what to send as a call of one, `lambda codec: codec.goodbye(...)`, which is made once
for each codec among the receivers. So only the two routers know what a frame looks like.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

from chalicelib.errors import ClientError, TooLarge
from chalicelib.protocol import action_frames, centrifuge
from chalicelib.protocol import frame as frames
from chalicelib.protocol.centrifuge import Command
from chalicelib.protocol.frame import MAX_FRAME_BYTES, Frame, FrameId
from chalicelib.protocol.publication import Missed, Position, Publication

# The codecs' names as they are stored in the table.
ACTION_FRAMES: Final = "peal"
CENTRIFUGE: Final = "centrifuge"

_JSON_SPACE: Final = " \t\n\r"


class Receiver(NamedTuple):
    """A connection, and the name of the codec it reads."""

    connection_id: str
    codec: str = ACTION_FRAMES


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


CODECS: Final[Mapping[str, Codec]] = {ACTION_FRAMES: action_frames, CENTRIFUGE: centrifuge}

# What to send, as a function of the codec that writes it.
Said = Callable[[Codec], object]


def codec_of(receiver: Receiver) -> Codec:
    """Return the codec that the receiver reads; action frames for one that only a newer version knows."""
    return CODECS.get(receiver.codec, action_frames)


def read(text: str) -> Frame | list[Command]:
    """Return the commands of a Centrifugo frame; of any other text, return or raise what `frame.parse` does."""
    line = text.strip()
    if "\n" in line or line != text.strip(_JSON_SPACE):
        # Several commands, or an action frame over several lines, of which the first is no JSON.
        return centrifuge.parse(text) or frames.parse(text)
    try:
        fields = frames.load(line, centrifuge.MAX_MESSAGE_BYTES)
    except ClientError:
        return frames.parse(text)
    if command := centrifuge.command(fields, len(line.encode())):
        return [command]
    if (size_bytes := len(text.encode())) > MAX_FRAME_BYTES:
        raise TooLarge(size_bytes, MAX_FRAME_BYTES)
    return frames.check(fields)
