"""How a handler is run and how that ends: the seam between the gateway and whatever runs the code."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from localgateway.contract.events import Event
from localgateway.contract.project import Function


@dataclass(frozen=True, slots=True)
class Result:
    """How an invocation ended.

    Attributes:
        outcome: `ok` if the handler returned, `error` if it raised or its process died, `timeout` past its time.
        payload: what it returned, as JSON gives it back; of an error, what Lambda says of it.
        lines: what it wrote, the last of it; see `output`.
    """

    outcome: Literal["ok", "error", "timeout"]
    payload: Any = None
    lines: tuple[str, ...] = ()


class Invoker(Protocol):
    """Whatever runs the handlers: `threads` of this process, or `workers`."""

    async def invoke(self, function: Function, event: Event) -> Result:
        """Run one handler; it goes on to its end even if nobody waits for the result any more."""

    async def crash(self, function: Function, event: Event) -> Result:
        """Have what would run the handler die of it; a fault that tests ask for."""

    async def close(self) -> None:
        """Let the idle go at once and the busy when they are done."""
