"""From a client's frame to the actions or commands it names, and back with the replies.

Invariant: a bad frame gets an error frame, does nothing else and leaves the socket open (unless it is none at all of
Centrifugo's protocol); what went wrong on our side is logged with the request id and never told.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from chalicelib import telemetry
from chalicelib.connections.closing import RUN_OUT
from chalicelib.delivery.threads import share
from chalicelib.errors import BadFrame, ClientError, NotRegistered, TooLarge, Unauthenticated, UnknownAction
from chalicelib.peal import Peal
from chalicelib.protocol import action_frames, centrifuge
from chalicelib.protocol import frame as protocol
from chalicelib.protocol.centrifuge import Command, Line
from chalicelib.protocol.events import Message
from chalicelib.protocol.grants import Verb
from chalicelib.protocol.receivers import CENTRIFUGE, PEAL, Receiver
from chalicelib.store.connection import Connection
from chalicelib.telemetry import Metric

# What a connection that speaks Centrifugo's protocol is told that sends anything else: its id, if any, means nothing.
BAD_REQUEST: Final = ("3501", "bad request")
# What comes first in Centrifugo's protocol, and what SDKs send many of at once, when they come back.
CONNECT: Final = "connect"
SUBSCRIBE: Final = "subscribe"
# So many are subscribed at a time; each waits for the table several times.
WORKERS: Final = 16
# How long commands of one frame may wait for those of another that they have overtaken: together, or one frame full of
# them would keep a Lambda busy until its time is over.
PAUSES_SECONDS: Final = (0.1, 0.4, 1.0)
# All that a connection may ask for that has not signed in yet.
AUTHENTICATE: Final = "authenticate"


@dataclass(frozen=True)
class Request:
    """What an action is given: the frame, the connection that sent it, and what Peal can do.

    `pauses` are the seconds that may be waited, all in all, for what other frames of the sender are doing.
    """

    peal: Peal
    sender: Connection
    frame: protocol.Frame
    pauses: Iterator[float] = field(default_factory=lambda: iter(()))

    def check(self, verb: Verb, target: str | None = None) -> None:
        """Raises Forbidden where the sender may not do that to the channel or user `target`: see `permission`."""
        self.peal.authorization.check(self.sender, verb, target)


# An action returns the reply's data, which is sent only when the frame has an id, or None: it has replied itself.
Action = Callable[[Request], Mapping[str, Any] | None]


def route(peal: Peal, message: Message, actions: Mapping[str, Action]) -> None:
    """The frame was acted upon and answered: a reply if it asked for one, an error frame if it was wrong.

    Raises:
        ConfigurationError, TableError: the answer could not be sent because nobody knows where to.
    """
    connection_id = message.context.connection_id
    frame_id: protocol.FrameId = None
    is_over = False
    telemetry.count(Metric.FRAMES)
    try:
        try:
            frame = protocol.parse(message.body)
            frame_id = frame.id
        finally:
            # What is no frame counts as one all the same, and who is not registered hears of that first.
            sender = peal.arrivals.admit(connection_id)
            telemetry.note("userId", sender.user_id)
            if sender.codec != PEAL:
                raise _OtherCodec
        name = frame.string("action")
        if not sender.is_signed_in and name != AUTHENTICATE:
            raise Unauthenticated
        action = actions.get(name)
        if action is None:
            raise UnknownAction(name)
        telemetry.note("action", name)
        data = action(Request(peal, sender, frame))
        if frame_id is None or data is None:
            return
        answer = action_frames.reply(frame_id, data)
    except _OtherCodec:
        # An empty object is what the other codec calls a pong.
        if message.body.strip() != "{}":
            telemetry.count(Metric.FRAME_ERRORS)
            telemetry.refuse(BadFrame.code)
            peal.close(connection_id, *BAD_REQUEST)
        return
    except ClientError as cause:
        telemetry.count(Metric.FRAME_ERRORS)
        telemetry.refuse(cause.code, cause.reason if isinstance(cause, Unauthenticated) else None)
        is_over = isinstance(cause, NotRegistered)
        answer = action_frames.error(frame_id, cause)
    except Exception as cause:
        telemetry.fail(cause)
        answer = action_frames.error(frame_id, cause)
    receiver = Receiver(connection_id)
    is_open = peal.delivery.send([receiver], lambda _: answer).sent
    if is_over and is_open:
        peal.closing.close(receiver, *RUN_OUT)


def route_commands(peal: Peal, message: Message, asked: Sequence[Command], commands: Mapping[str, Action]) -> None:
    """The commands were acted upon in their order, subscribes in a row at once, and answered in that order.

    Those who answer by themselves have, in frames of their own; the others share one, unless such a one stands between
    them: an SDK sends its subscribes along with connect, and must be told that it is connected before anything else.

    Errors as `route`.
    """
    receiver = Receiver(message.context.connection_id, CENTRIFUGE)
    telemetry.count(Metric.FRAMES)
    answers: list[Line | None] = []
    pauses = iter(PAUSES_SECONDS)
    done = 0

    def tell() -> None:
        if told := [answer for answer in answers if answer and answer["id"] is not None]:
            peal.delivery.send([receiver], lambda _: told)
        answers.clear()

    try:
        sender = peal.arrivals.admit(receiver.connection_id, len(asked))
        telemetry.note("userId", sender.user_id)
        for name, group in groupby(asked, key=attrgetter("name")):
            run, perform = list(group), partial(_perform, peal, sender, commands, pauses)
            if name == SUBSCRIBE:
                tell()
            answers += (_at_once if name == SUBSCRIBE else map)(perform, run)
            done += len(run)
            if name == CONNECT and done < len(asked):
                sender = peal.connection(sender.connection_id)
    except NotRegistered as cause:
        _explain(asked[0], cause)
        return peal.closing.close(receiver, *RUN_OUT)
    except Exception as cause:
        answers += [_explain(command, cause) for command in asked[done:]]
    tell()


def _at_once(perform: Callable[[Command], Line | None], asked: Sequence[Command]) -> list[Line | None]:
    left = deque(asked)
    answers: list[Line | None] = []
    share(lambda: left.popleft() if left else None, lambda command: answers.append(perform(command)), WORKERS)
    return answers


def _perform(
    peal: Peal,
    sender: Connection,
    commands: Mapping[str, Action],
    pauses: Iterator[float],
    command: Command,
) -> Line | None:
    telemetry.note("action", command.name)
    try:
        if command.size_bytes > protocol.MAX_FRAME_BYTES:
            raise TooLarge(command.size_bytes, protocol.MAX_FRAME_BYTES)
        if sender.codec != CENTRIFUGE and command.name != CONNECT:
            raise Unauthenticated("connect first")
        frame = protocol.Frame(command.id, command.fields)
        result = commands[command.name](Request(peal, sender, frame, pauses))
        return None if result is None else centrifuge.reply(command, result)
    except NotRegistered:
        raise
    except Exception as cause:
        return _explain(command, cause)


def _explain(command: Command, cause: Exception) -> Line:
    if isinstance(cause, ClientError):
        telemetry.count(Metric.FRAME_ERRORS)
        telemetry.refuse(cause.code, cause.reason if isinstance(cause, Unauthenticated) else None)
    else:
        telemetry.fail(cause)
    return centrifuge.error(command.id, cause)


class _OtherCodec(Exception):
    """The connection reads and writes another codec."""
