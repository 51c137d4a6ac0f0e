"""Faults: failures that are rare on AWS, on demand.

A fault is armed, strikes as often as it says, and is over. It never causes an outcome that AWS does not have:
$disconnect is not guaranteed, a 410 is sometimes false, an account that is busy gets 429s.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: its meaning, and what it can be limited to (`target`)."""

    meaning: str
    target: str
    is_delay: bool = False


KINDS: Mapping[str, Kind] = {
    "lose-disconnect": Kind("a connection ends and no $disconnect follows", "connectionId"),
    "false-gone": Kind("@connections answers 410 for a connection that is open", "connectionId"),
    "throttle": Kind("@connections answers 429", "connectionId"),
    "drop-post": Kind("a POST is answered 200 and nothing is sent", "connectionId"),
    "delay-post": Kind("a POST waits before it is looked at", "connectionId", is_delay=True),
    "delay-route": Kind("an invocation waits before it begins", "route", is_delay=True),
    "kill-worker": Kind("what runs a function dies under it", "function"),
}


class BadFault(ValueError):
    """There is no such fault; the message is a sentence for the person who asked for it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        name: one of KINDS.
        target: the only connection, route or function that it strikes, None for any.
        times: how often it strikes, None for always.
        seconds: how long a delay is; 0 for the others.

    Raises:
        BadFault: if there is no such fault.
    """

    name: str
    target: str | None = None
    times: int | None = None
    seconds: float = 0

    def __post_init__(self) -> None:
        kind = KINDS.get(self.name)
        if kind is None:
            raise BadFault(f"{self.name!r} is not a fault: the faults are {', '.join(KINDS)}.")
        if self.target is not None and not (isinstance(self.target, str) and self.target):
            raise BadFault(f"{kind.target} of {self.name} must be a string that is not empty.")
        if self.times is not None and (type(self.times) is not int or self.times < 1):
            raise BadFault(f"times of {self.name} must be 1 or more, or nothing for always.")
        is_number = type(self.seconds) in (int, float) and math.isfinite(self.seconds)
        if kind.is_delay and not (is_number and self.seconds > 0):
            raise BadFault(f"{self.name} needs seconds, more than 0.")
        if not kind.is_delay and self.seconds != 0:
            raise BadFault(f"{self.name} does not take seconds.")

    def to_json(self) -> dict[str, Any]:
        """Return what `read_fault` reads back."""
        kind = KINDS[self.name]
        return {
            "fault": self.name,
            **({kind.target: self.target} if self.target else {}),
            "times": self.times,
            **({"seconds": self.seconds} if kind.is_delay else {}),
        }


def read_fault(value: object) -> Fault:
    """Read `{"fault": "false-gone", "connectionId": "L0SM9cOFvHcCIhw=", "times": 2}`.

    Only `fault` is required: by default it strikes any connection, route or function; a delay always, others once.

    Raises:
        BadFault: if it is not a fault.
    """
    if not isinstance(value, dict) or not isinstance(name := value.get("fault"), str):
        raise BadFault('A fault is a JSON object like {"fault": "false-gone", "times": 2}.')
    kind = KINDS.get(name)
    if kind is None:
        return Fault(name)
    known = {"fault", kind.target, "times"} | ({"seconds"} if kind.is_delay else set())
    if unknown := sorted(value.keys() - known):
        raise BadFault(f"{name} takes no {unknown[0]}: it takes {', '.join(sorted(known - {'fault'}))}.")
    times = value.get("times", None if kind.is_delay else 1)
    return Fault(name, value.get(kind.target), times, value.get("seconds", 0))


def parse_fault(text: str) -> Fault:
    """Read the command line's NAME, NAME=NUMBER, NAME=TARGET or NAME=TARGET:NUMBER.

    NUMBER is the seconds of a delay, or how often any other fault strikes, which may be `all`.

    Raises:
        BadFault: if it is not a fault.
    """
    name, equals, rest = text.partition("=")
    if equals and not rest:
        raise BadFault(f"{text!r} has nothing after the equals sign.")
    value: dict[str, Any] = {"fault": name}
    target, colon, number = rest.rpartition(":")
    if rest and not colon and not is_number(rest):
        target, number = rest, ""
    if colon and not is_number(number):
        raise BadFault(f"{number!r} in {text!r} is not a number.")
    kind = KINDS.get(name)
    if kind and target:
        value[kind.target] = target
    if kind and number:
        value["seconds" if kind.is_delay else "times"] = to_number(number)
    return read_fault(value)


def is_number(text: str) -> bool:
    return text == "all" or text.replace(".", "", 1).isdecimal()


def to_number(text: str) -> float | None:
    if text == "all":
        return None
    return float(text) if "." in text else int(text)


class Faults:
    """The armed faults, in the order in which they strike. Thread-safe."""

    def __init__(self, armed: Iterable[Fault] = ()) -> None:
        self._lock = Lock()
        self._armed = list(armed)

    def lose_disconnect(self, *, connection_id: str | None = None, times: int | None = 1) -> None:
        """End connections without a $disconnect, which AWS does not guarantee."""
        self.arm(Fault("lose-disconnect", connection_id, times))

    def false_gone(self, *, connection_id: str | None = None, times: int | None = 1) -> None:
        """Answer calls of @connections with 410 although the connection is open."""
        self.arm(Fault("false-gone", connection_id, times))

    def throttle(self, *, connection_id: str | None = None, times: int | None = 1) -> None:
        """Answer calls of @connections with 429."""
        self.arm(Fault("throttle", connection_id, times))

    def drop_post(self, *, connection_id: str | None = None, times: int | None = 1) -> None:
        """Answer POSTs with 200 and send nothing."""
        self.arm(Fault("drop-post", connection_id, times))

    def delay_post(self, seconds: float, *, connection_id: str | None = None, times: int | None = None) -> None:
        """Delay POSTs."""
        self.arm(Fault("delay-post", connection_id, times, seconds))

    def delay_route(self, seconds: float, *, route: str | None = None, times: int | None = None) -> None:
        """Delay invocations for a route, such as `$connect`; the integration timeout runs meanwhile."""
        self.arm(Fault("delay-route", route, times, seconds))

    def kill_worker(self, function: str | None = None, *, times: int | None = 1) -> None:
        """Kill what runs a function. In threads, which cannot be killed, the function does not even begin."""
        self.arm(Fault("kill-worker", function, times))

    def arm(self, fault: Fault) -> None:
        """Arm a fault; it strikes after those of its kind that are armed already."""
        with self._lock:
            self._armed.append(fault)

    @property
    def armed(self) -> list[Fault]:
        """The faults that have not struck as often as they say."""
        with self._lock:
            return list(self._armed)

    def disarm(self, name: str, target: str | None) -> None:
        """Disarm the faults of this name and target."""
        with self._lock:
            self._armed = [fault for fault in self._armed if (fault.name, fault.target) != (name, target)]

    def clear(self) -> None:
        """Disarm all faults."""
        with self._lock:
            self._armed.clear()

    def take(self, name: str, target: str) -> Fault | None:
        """Return the fault that strikes this target now, if any, and count it."""
        # There is nearly always none, and this is called for each message.
        if not self._armed:
            return None
        with self._lock:
            for index, fault in enumerate(self._armed):
                if fault.name == name and fault.target in (None, target):
                    if fault.times == 1:
                        del self._armed[index]
                    elif fault.times is not None:
                        self._armed[index] = Fault(name, fault.target, fault.times - 1, fault.seconds)
                    return fault
        return None
