"""How a handler runs and how that ends: the seam between the gateway and what runs the code."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from localgateway.contract.events import Event
from localgateway.contract.project import Function


@dataclass(frozen=True, slots=True)
class Result:
    """How an invocation ended.

    Attributes:
        outcome: `ok` if the handler returned, `error` if it raised or its process died, `timeout` past its time.
        payload: what it returned, passed through JSON; for an error, Lambda's description of it.
        lines: the last of what it wrote; see `output`.
    """

    outcome: Literal["ok", "error", "timeout"]
    payload: Any = None
    lines: tuple[str, ...] = ()


class Invoker(Protocol):
    """What runs the handlers: threads of this process, or worker processes."""

    async def invoke(self, function: Function, event: Event) -> Result:
        """Run one handler; it runs to its end even if nobody waits for the result."""

    async def crash(self, function: Function, event: Event) -> Result:
        """Kill what runs the handler; a fault that tests inject."""

    async def close(self) -> None:
        """Release what is idle at once, and the rest when it is done."""
