"""Everything Peal raises on purpose, and what each error means; other docstrings only name them.

    PealError
    ├── ClientError          the caller's fault: `code` and message are safe to send
    │   ├── BadFrame         bad_frame        not a JSON object
    │   ├── UnknownAction    unknown_action   no such action
    │   ├── Invalid          invalid          a field is missing, mistyped or out of bounds
    │   │   ├── UnknownChannel                no namespace has a channel of that name
    │   │   ├── NotAvailable                  the channel's namespace has no history, or no presence
    │   │   └── EpochOver                     the position belongs to an earlier epoch
    │   ├── TooLarge         too_large        more bytes than a frame may have
    │   ├── Unauthenticated  unauthenticated  the caller is unknown
    │   │   ├── TokenExpired                  a token that was valid has expired
    │   │   └── NotRegistered                 the connection has no row, or its time is over; a `goodbye` follows
    │   ├── Forbidden        forbidden        no grant allows it
    │   ├── NotFound         not_found        no connection with that id
    │   ├── NotSubscribed    not_subscribed   the connection has not subscribed to that channel
    │   ├── RateLimited      rate_limited     more frames than the connection may send; a later try may pass
    │   ├── LimitExceeded    limit_exceeded   more of something than one may have
    │   └── Conflict         conflict         another connection has that id (REST and $connect only)
    ├── ServiceError         our fault or AWS's: logged, never sent
    │   ├── TableError       DynamoDB refused or did not answer
    │   ├── SecretError      a secret that a variable refers to cannot be read
    │   ├── JobsError        the queue of jobs refused a job or did not answer
    │   └── JwksError        the keys that verify tokens cannot be fetched or used
    └── ConfigurationError   a setting is missing or wrong: names the variable and gives an example

Facts are attributes, and `sentence` puts them into words. A class has a docstring only if it adds to this list.
"""

from typing import ClassVar


class PealError(Exception):
    sentence: ClassVar[str] = ""

    def __str__(self) -> str:
        return self.sentence.format(self=self) or super().__str__()


class ClientError(PealError):
    """The caller's fault. `code` is one of PROTOCOL.md's error codes; the message may be sent as it is."""

    code: ClassVar[str]
    retryable: ClassVar[bool] = False


class BadFrame(ClientError):
    code = "bad_frame"
    sentence = "A frame is a JSON object: {self.reason}."

    def __init__(self, reason: str) -> None:
        self.reason = reason


class UnknownAction(ClientError):
    code = "unknown_action"

    def __init__(self, action: str) -> None:
        self.action = action

    def __str__(self) -> str:
        return f"There is no action {self.action[:64]!r}."


class Invalid(ClientError):
    """The field `field` is missing, has the wrong type, or is out of bounds."""

    code = "invalid"
    sentence = "{self.field} {self.requirement}."

    def __init__(self, field: str, requirement: str) -> None:
        self.field, self.requirement = field, requirement


class UnknownChannel(Invalid):
    """No namespace has a channel of that name."""


class NotAvailable(Invalid):
    """The channel's namespace has no history, or no presence."""


class EpochOver(Invalid):
    """The position belongs to an earlier epoch."""


class TooLarge(ClientError):
    """The text has more bytes than `limit_bytes`."""

    code = "too_large"
    sentence = "{self.size_bytes} bytes are more than the {self.limit_bytes} a frame may have."

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        self.size_bytes, self.limit_bytes = size_bytes, limit_bytes


class Unauthenticated(ClientError):
    """The caller is unknown. The message does not say what would be accepted; `reason` is for our log."""

    code = "unauthenticated"
    sentence = "Not signed in."

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class TokenExpired(Unauthenticated):
    """The token was valid once. This reveals nothing else about it."""


class NotRegistered(Unauthenticated):
    """The connection has no row, or its time is over; a `goodbye` follows."""


class Forbidden(ClientError):
    """No grant allows it. The message reveals neither what would, nor whether the target exists."""

    code = "forbidden"
    sentence = "This is not allowed."


class NotSubscribed(ClientError):
    code = "not_subscribed"
    sentence = "Not subscribed to this channel."


class RateLimited(ClientError):
    code = "rate_limited"
    retryable = True
    sentence = "Too many frames: wait a moment."


class LimitExceeded(ClientError):
    """There are already `limit` of `what` (a plural)."""

    code = "limit_exceeded"
    sentence = "At most {self.limit} {self.what}."

    def __init__(self, what: str, limit: int) -> None:
        self.what, self.limit = what, limit


class NotFound(ClientError):
    code = "not_found"
    sentence = "There is no such connection."


class Conflict(ClientError):
    code = "conflict"
    sentence = "The connection id is taken."


class ServiceError(PealError):
    """Our fault or AWS's. Never sent to a client."""


class TableError(ServiceError):
    """DynamoDB refused `operation` with `reason` (its error code), or did not answer."""

    sentence = "DynamoDB {self.operation} failed: {self.reason}"

    def __init__(self, operation: str, reason: str) -> None:
        self.operation, self.reason = operation, reason


class JobsError(ServiceError):
    """The queue refused a job with `reason` (its error code), or did not answer."""

    sentence = "The queue of jobs failed: {self.reason}"

    def __init__(self, reason: str) -> None:
        self.reason = reason


class SecretError(ServiceError):
    """`service`, to which the environment variable `variable` refers, refused with `reason` or did not answer."""

    sentence = "The secret that {self.variable} refers to cannot be read from {self.service}: {self.reason}"

    def __init__(self, variable: str, service: str, reason: str) -> None:
        self.variable = variable
        self.service = service
        self.reason = reason


class JwksError(ServiceError):
    """The keys at JWT_JWKS_URL cannot be fetched or used, for `reason`."""

    sentence = "The keys at JWT_JWKS_URL cannot be fetched: {self.reason}"

    def __init__(self, reason: str) -> None:
        self.reason = reason


class ConfigurationError(PealError):
    """The environment variable `variable` is missing or wrong."""

    sentence = "{self.variable} {self.problem}, for example {self.variable}={self.example}"

    def __init__(self, variable: str, problem: str, example: str) -> None:
        self.variable = variable
        self.problem = problem
        self.example = example
