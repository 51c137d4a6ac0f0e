"""From a client's frame to the actions or commands it names, and back with the replies.

Invariant: a bad frame gets an error frame, does nothing else and leaves the socket open (unless its sender speaks
Centrifugo's protocol, and the frame does not). What goes wrong on our side is logged with the request id and never
revealed. If nothing could be sent, ConfigurationError or TableError is raised.
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
from chalicelib.protocol.centrifuge import Command
from chalicelib.protocol.codec import ACTION_FRAMES, CENTRIFUGE, Receiver
from chalicelib.protocol.events import MessageEvent
from chalicelib.protocol.frame import MAX_FRAME_BYTES, Frame, JsonObject
from chalicelib.protocol.grants import Verb
from chalicelib.store.connection import Connection
from chalicelib.telemetry import Metric

# Sent to a connection that speaks Centrifugo's protocol and sends anything else: an `id` in that means nothing.
BAD_REQUEST: Final = ("3501", "bad request")
# `connect` comes first in Centrifugo's protocol; when they reconnect, SDKs send many `subscribe`s in one frame.
CONNECT: Final = "connect"
SUBSCRIBE: Final = "subscribe"
# How many subscribes run at a time; each waits for the table several times.
WORKERS: Final = 16
# The pauses in which commands of a frame wait for those of an earlier frame that they have overtaken. They share them,
# or one frame could occupy a Lambda until it times out.
PAUSES_SECONDS: Final = (0.1, 0.4, 1.0)
# All that a connection may ask for before it has signed in.
AUTHENTICATE: Final = "authenticate"


@dataclass(frozen=True)
class Request:
    """What an action is given: the frame, the connection that sent it, and what Peal can do.

    `pauses` are the seconds that may be spent, all in all, waiting for what the sender's other frames are doing.
    """

    peal: Peal
    sender: Connection
    frame: Frame
    pauses: Iterator[float] = field(default_factory=lambda: iter(()))

    def check(self, verb: Verb, target: str | None = None) -> None:
        """Raise Forbidden unless the sender may do that to the channel or user `target`; see `grants`."""
        self.peal.authorization.check(self.sender, verb, target)


# Returns the reply's data, which is sent only if the frame has an id, or None where the action has replied by itself.
Action = Callable[[Request], Mapping[str, Any] | None]
Actions = Mapping[str, Action]


def route(peal: Peal, message: MessageEvent, frame: Frame | ClientError, actions: Actions) -> None:
    """Run the action that a frame names; send a reply if it has an id, or an error frame if anything is wrong.

    `frame` is what the message's body was read as, or what is wrong with it: that counts as a frame, too.
    """
    receiver = Receiver(message.context.connection_id)
    frame_id = frame.id if isinstance(frame, Frame) else None
    reads_other_codec = is_over = False
    telemetry.count(Metric.FRAMES)
    try:
        # A sender that is not registered hears of that first.
        sender = peal.arrivals.admit(receiver.connection_id)
        telemetry.note("userId", sender.user_id)
        reads_other_codec = sender.codec != ACTION_FRAMES
        reply = None if reads_other_codec else _act(peal, sender, frame, actions)
    except Exception as cause:
        _note_failure(cause)
        is_over = isinstance(cause, NotRegistered)
        reply = action_frames.error(frame_id, cause)
    # An empty object is what Centrifugo's protocol calls a pong.
    if reads_other_codec and message.body.strip() != "{}":
        _note_failure(BadFrame("it is of another protocol"))
        peal.close(receiver.connection_id, *BAD_REQUEST)
    if reply is not None:
        is_open = peal.delivery.reply(receiver, reply).sent
        if is_over and is_open:
            peal.closing.close(receiver, *RUN_OUT)


def route_commands(peal: Peal, message: MessageEvent, commands: Sequence[Command], actions: Actions) -> None:
    """Run commands in their order, subscribes in a row at once, and reply in that order.

    A command that replies by itself does so in frames of its own. The other replies share a frame, up to the next
    such command: an SDK sends its subscribes along with connect, and must read first that it is connected.
    """
    receiver = Receiver(message.context.connection_id, CENTRIFUGE)
    telemetry.count(Metric.FRAMES)
    replies: list[JsonObject | None] = []
    pauses = iter(PAUSES_SECONDS)
    done = 0

    def send_replies() -> None:
        if wanted := [reply for reply in replies if reply and reply["id"] is not None]:
            peal.delivery.reply(receiver, wanted)
        replies.clear()

    try:
        sender = peal.arrivals.admit(receiver.connection_id, len(commands))
        telemetry.note("userId", sender.user_id)
        for name, group in groupby(commands, key=attrgetter("name")):
            run, perform = list(group), partial(_perform, peal, sender, actions, pauses)
            if name == SUBSCRIBE:
                send_replies()
            replies += (_at_once if name == SUBSCRIBE else map)(perform, run)
            done += len(run)
            if name == CONNECT and done < len(commands):
                sender = peal.connection(sender.connection_id)
    except NotRegistered as cause:
        _note_failure(cause)
        return peal.closing.close(receiver, *RUN_OUT)
    except Exception as cause:
        replies += [_explain(command, cause) for command in commands[done:]]
    send_replies()


def _act(peal: Peal, sender: Connection, frame: Frame | ClientError, actions: Actions) -> JsonObject | None:
    if isinstance(frame, ClientError):
        raise frame
    name = frame.string("action")
    if not sender.is_signed_in and name != AUTHENTICATE:
        raise Unauthenticated
    action = actions.get(name)
    if action is None:
        raise UnknownAction(name)
    telemetry.note("action", name)
    data = action(Request(peal, sender, frame))
    return None if frame.id is None or data is None else action_frames.reply(frame.id, data)


def _at_once(perform: Callable[[Command], JsonObject | None], commands: Sequence[Command]) -> list[JsonObject | None]:
    left = deque(commands)
    replies: list[JsonObject | None] = []
    share(lambda: left.popleft() if left else None, lambda command: replies.append(perform(command)), WORKERS)
    return replies


def _perform(
    peal: Peal, sender: Connection, actions: Actions, pauses: Iterator[float], command: Command
) -> JsonObject | None:
    telemetry.note("action", command.name)
    try:
        if command.size_bytes > MAX_FRAME_BYTES:
            raise TooLarge(command.size_bytes, MAX_FRAME_BYTES)
        if sender.codec != CENTRIFUGE and command.name != CONNECT:
            raise Unauthenticated("connect first")
        result = actions[command.name](Request(peal, sender, Frame(command.id, command.fields), pauses))
        return None if result is None else centrifuge.reply(command, result)
    except NotRegistered:
        raise
    except Exception as cause:
        return _explain(command, cause)


def _explain(command: Command, cause: Exception) -> JsonObject:
    _note_failure(cause)
    return centrifuge.error(command.id, cause)


def _note_failure(cause: Exception) -> None:
    if not isinstance(cause, ClientError):
        return telemetry.fail(cause)
    telemetry.count(Metric.FRAME_ERRORS)
    telemetry.refuse(cause.code, cause.reason if isinstance(cause, Unauthenticated) else None)
