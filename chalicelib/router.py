"""From a client's text frame to the action it names, and back with the reply.

Invariant: a bad frame gets an error frame, does nothing else and leaves the socket open; what went wrong on our
side is logged with the request id and never told.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from chalicelib import protocol, telemetry
from chalicelib.errors import ClientError, NotRegistered, Unauthenticated, UnknownAction
from chalicelib.events import Message
from chalicelib.permission import Verb
from chalicelib.registry import Connection
from chalicelib.service import Service
from chalicelib.telemetry import Metric

# All that a connection may ask for that has not signed in yet.
AUTHENTICATE: Final = "authenticate"


@dataclass(frozen=True)
class Request:
    """What an action is given: the frame, the connection that sent it, and what Peal can do."""

    service: Service
    sender: Connection
    frame: protocol.Frame

    def allow(self, verb: Verb, target: str | None = None) -> None:
        """Raises Forbidden where the sender may not do that to the channel or user `target`: see `permission`."""
        self.service.allow(self.sender, verb, target)


# An action returns the reply's data, which is sent only when the frame has an id, or None: it has replied itself.
Action = Callable[[Request], Mapping[str, Any] | None]


def route(service: Service, message: Message, actions: Mapping[str, Action]) -> None:
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
            sender = service.admit(connection_id)
            telemetry.note("userId", sender.user_id)
        name = frame.string("action")
        if not sender.is_signed_in and name != AUTHENTICATE:
            raise Unauthenticated
        action = actions.get(name)
        if action is None:
            raise UnknownAction(name)
        telemetry.note("action", name)
        data = action(Request(service, sender, frame))
        if frame_id is None or data is None:
            return
        answer = protocol.reply(frame_id, data)
    except ClientError as cause:
        telemetry.count(Metric.FRAME_ERRORS)
        telemetry.refuse(cause.code, cause.reason if isinstance(cause, Unauthenticated) else None)
        is_over = isinstance(cause, NotRegistered)
        answer = protocol.error(frame_id, cause)
    except Exception as cause:
        telemetry.fail(cause)
        answer = protocol.error(frame_id, cause)
    is_open = service.send_frame(connection_id, answer).sent
    if is_over and is_open:
        service.dismiss(connection_id)
