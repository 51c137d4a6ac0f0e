"""What requests to one host are signed with: whichever credentials and time hold now.

Invariants: new credentials count within a second; a clock that is minutes off is set by the other side's.
Safe in threads.
"""

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from chalicelib.aws.http1 import Answer
from chalicelib.aws.sigv4 import Credentials, Second, second

# AWS takes signatures that are five minutes off; SDKs look at the clock from four on.
SKEW_SECONDS: Final = 240


class Signer:
    """Gives what to sign with.

    Args:
        host: what the Host header says.
        region: the Region that is signed for.
        service: whose name the signature is for.
        credentials: gives those to sign with; asked once in a second, so that new ones count at once.
        clock: epoch seconds.
    """

    def __init__(
        self,
        host: str,
        region: str,
        service: str,
        credentials: Callable[[], Credentials],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._region = region
        self._service = service
        self._credentials = credentials
        self._clock = clock
        self._skew_seconds = 0.0
        self._seconds: tuple[int, dict[str, Second]] = (0, {})

    def now(self, kind: str = "", headers: Mapping[str, str] = MappingProxyType({})) -> Second:
        """What requests of a kind that are signed now have in common.

        Args:
            kind: those of one kind have the same headers.
            headers: what is sent and signed beside what always is.
        """
        epoch = int(self._clock() + self._skew_seconds)
        signed_in, kinds = self._seconds
        if signed_in != epoch:
            kinds = {}
            # One assignment: other threads see both or neither.
            self._seconds = (epoch, kinds)
        found = kinds.get(kind)
        if found is None:
            found = kinds[kind] = second(epoch, self._host, self._region, self._credentials(), self._service, headers)
        return found

    def set_clock(self, answer: Answer, signed: Second) -> bool:
        """Return whether the answer's clock is so far from that of its request that ours is now set by it."""
        # Needed when a clock is wrong, and no sooner: it would cost every cold start.
        from email.utils import parsedate_to_datetime

        try:
            theirs = parsedate_to_datetime(answer.headers["date"]).timestamp()
        except (KeyError, ValueError):
            return False
        if abs(theirs - signed.epoch) < SKEW_SECONDS:
            return False
        self._skew_seconds = theirs - self._clock()
        return True
