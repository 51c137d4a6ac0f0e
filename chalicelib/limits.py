"""How much is done at once, and for how long."""

from typing import Final, NamedTuple


class Limits(NamedTuple):
    """Bounds that `build` hands to the parts; tests pass smaller ones.

    Attributes:
        run: how many publications a lease's holder reads and sends in one round: memory stays flat, and the lease is
            renewed in between.
        publication_seconds: how long a number may lack its publication, which is written right after it was taken,
            before it is filled.
        deliver_seconds: how long one Lambda delivers what others publish before a job takes over.
        admitted: how many waiting subscribers are admitted at once, which takes a second or two; then the lease is
            renewed.
        part_bytes: how many bytes of publications one frame carries: API Gateway bills by 32 KB.
        listed_bytes: a longer list of members would not fit one frame and is left out.
        counted: members are counted up to this number, for some 170 read units.
        told: channels with more members do not announce joins and leaves: each such push would cost as much as a
            publication.
        grace_seconds: how long a disconnected user may take to reconnect before members learn that it left.
        reaped: how many connections a run of the reaper checks, every five minutes: 2,000 requests to API Gateway, a
            fifth of what it takes in a second.
        reap_seconds: how long a run of the reaper checks connections.
    """

    run: int = 100
    publication_seconds: float = 0.5
    deliver_seconds: float = 10.0
    admitted: int = 200
    part_bytes: int = 30_000
    listed_bytes: int = 30_000
    counted: int = 10_000
    told: int = 1_000
    grace_seconds: int = 15
    reaped: int = 2_000
    reap_seconds: float = 20.0


LIMITS: Final = Limits()
