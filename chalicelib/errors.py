"""Everything Peal raises on purpose.

    PealError
    ├── ClientError          the caller's fault: `code` and message are safe to send
    │   ├── BadFrame         bad_frame        not a JSON object
    │   ├── UnknownAction    unknown_action   no such action
    │   ├── Invalid          invalid          a field is missing, mistyped or out of bounds
    │   │   ├── UnknownChannel                no namespace has a channel of that name
    │   │   ├── NotAvailable                  the channel's namespace has no such thing
    │   │   └── EpochOver                     a position of an epoch that is over
    │   ├── TooLarge         too_large        more bytes than a frame may have
    │   ├── Unauthenticated  unauthenticated  nobody we know
    │   │   ├── TokenExpired                  a token that was good and is over
    │   │   └── NotRegistered                 a frame of a connection that does not count any more
    │   ├── Forbidden        forbidden        no grant for it
    │   ├── NotFound         not_found        no such connection
    │   ├── NotSubscribed    not_subscribed   the channel is not one of this connection's
    │   ├── RateLimited      rate_limited     more frames than the connection may send
    │   ├── LimitExceeded    limit_exceeded   more of something than one may have
    │   └── Conflict         conflict         the connection id is taken (REST and $connect only)
    ├── ServiceError         ours or AWS's fault: logged, never sent
    │   ├── TableError       DynamoDB refused or did not answer
    │   ├── SecretError      a secret that a variable refers to cannot be read
    │   └── JwksError        the keys that verify tokens cannot be fetched
    └── ConfigurationError   a setting is missing or wrong: names the variable and gives an example

Facts are attributes, the sentence is built in `__str__`.
"""

from typing import ClassVar


class PealError(Exception):
    """Anything Peal raises on purpose."""


class ClientError(PealError):
    """The caller's fault. `code` is one of PROTOCOL.md's error codes; the message may be sent as it is."""

    code: ClassVar[str]
    retryable: ClassVar[bool] = False


class BadFrame(ClientError):
    """The text is not a frame at all."""

    code = "bad_frame"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"A frame is a JSON object: {self.reason}."


class UnknownAction(ClientError):
    """No action of that name is in the table of actions."""

    code = "unknown_action"

    def __init__(self, action: str) -> None:
        super().__init__(action)
        self.action = action

    def __str__(self) -> str:
        return f"There is no action {self.action[:64]!r}."


class Invalid(ClientError):
    """The field `field` is missing, has the wrong type, or is out of bounds."""

    code = "invalid"

    def __init__(self, field: str, requirement: str) -> None:
        super().__init__(field, requirement)
        self.field = field
        self.requirement = requirement

    def __str__(self) -> str:
        return f"{self.field} {self.requirement}."


class UnknownChannel(Invalid):
    """There can be no channel of that name."""


class NotAvailable(Invalid):
    """The channel is in a namespace without history, or without presence."""


class EpochOver(Invalid):
    """The position is of an epoch that is over."""


class TooLarge(ClientError):
    """The text has more bytes than `limit_bytes`."""

    code = "too_large"

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(size_bytes, limit_bytes)
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        return f"{self.size_bytes} bytes are more than the {self.limit_bytes} a frame may have."


class Unauthenticated(ClientError):
    """The caller is nobody we know. Says nothing of what would have been accepted; `reason` is for our log."""

    code = "unauthenticated"

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return "Not signed in."


class TokenExpired(Unauthenticated):
    """The token was good once; its time is over. Only whom it was issued to can know more of it than that."""


class NotRegistered(Unauthenticated):
    """The connection is not registered, or its time has run out: what follows is a `goodbye`."""


class Forbidden(ClientError):
    """Nothing grants it. Says neither what would, nor whether what was asked for is there."""

    code = "forbidden"

    def __str__(self) -> str:
        return "This is not allowed."


class NotSubscribed(ClientError):
    """The connection has not subscribed to that channel."""

    code = "not_subscribed"

    def __str__(self) -> str:
        return "Not subscribed to this channel."


class RateLimited(ClientError):
    """The connection sends more frames than it may; a later try may pass."""

    code = "rate_limited"
    retryable = True

    def __str__(self) -> str:
        return "Too many frames: wait a moment."


class LimitExceeded(ClientError):
    """There are `limit` of `what` (a plural) already."""

    code = "limit_exceeded"

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(what, limit)
        self.what = what
        self.limit = limit

    def __str__(self) -> str:
        return f"At most {self.limit} {self.what}."


class NotFound(ClientError):
    """No connection of that id is registered."""

    code = "not_found"

    def __str__(self) -> str:
        return "There is no such connection."


class Conflict(ClientError):
    """Another connection holds that id."""

    code = "conflict"

    def __str__(self) -> str:
        return "The connection id is taken."


class ServiceError(PealError):
    """Ours or AWS's fault. Never sent to a client."""


class TableError(ServiceError):
    """DynamoDB refused `operation` with `reason` (its error code), or did not answer."""

    def __init__(self, operation: str, reason: str) -> None:
        super().__init__(operation, reason)
        self.operation = operation
        self.reason = reason

    def __str__(self) -> str:
        return f"DynamoDB {self.operation} failed: {self.reason}"


class SecretError(ServiceError):
    """`service`, to which the environment variable `variable` refers, refused with `reason` or did not answer."""

    def __init__(self, variable: str, service: str, reason: str) -> None:
        super().__init__(variable, service, reason)
        self.variable = variable
        self.service = service
        self.reason = reason

    def __str__(self) -> str:
        return f"The secret that {self.variable} refers to cannot be read from {self.service}: {self.reason}"


class JwksError(ServiceError):
    """The keys at JWT_JWKS_URL cannot be fetched or used, for `reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"The keys at JWT_JWKS_URL cannot be fetched: {self.reason}"


class ConfigurationError(PealError):
    """The environment variable `variable` is missing or wrong."""

    def __init__(self, variable: str, problem: str, example: str) -> None:
        super().__init__(variable, problem, example)
        self.variable = variable
        self.problem = problem
        self.example = example

    def __str__(self) -> str:
        return f"{self.variable} {self.problem}, for example {self.variable}={self.example}"
