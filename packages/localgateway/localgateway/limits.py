"""API Gateway's quotas for WebSocket APIs, and the bounds that keep one client from hurting the others.

Every number is here once. All can be overridden, so that a test passes two hours in a second.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How much, how many and how long; sizes in bytes, times in seconds.

    Source, unless said otherwise: API Gateway developer guide, "Quotas for configuring and running a WebSocket API".
    """

    # WebSocket frame size 32 KB and message size 128 KB; beyond either the socket is closed with 1009.
    frame_bytes: int = 32_768
    message_bytes: int = 131_072
    # Idle connection timeout 10 minutes, connection duration 2 hours; both close with 1001 "Going away".
    idle_seconds: float = 600
    duration_seconds: float = 7_200
    # Integration timeout: at most 29 seconds, which is also what Chalice's integrations are made with.
    integration_seconds: float = 29
    # Length of the URL of a WebSocket API in characters.
    url_chars: int = 4_096
    # "Total combined size of all header values", as the REST quotas have it; presumed here.
    header_bytes: int = 10_240

    # Lambda authorizer result size 8 KB.
    authorizer_result_bytes: int = 8_192

    # From here on the bounds are ours: AWS has none, or has them per account.
    header_count: int = 100
    fragments_per_message: int = 4_096
    # Open WebSockets, before a handshake is answered 429; fewer where the process may not open as many files.
    open_sockets: int = 16_384
    # Connections that are not WebSockets, before the longest-silent one is cut; and how long a request may take to
    # arrive, or the next one to begin.
    http_connections: int = 512
    http_seconds: float = 60
    # What is buffered for a client that does not read, before POST answers 429 and nothing is read from the client.
    write_buffer_bytes: int = 1_048_576
    # What a client may send before the 101; then its socket is not read further.
    early_bytes: int = 131_072
    # Messages of one client in flight before its socket is not read further: a flood waits in its own TCP window.
    in_flight_per_client: int = 16
    # Handlers that run at the same time; the rest wait. On AWS an account has 1,000.
    concurrent_invocations: int = 64
    # Readers of the feed, such as the console: how many, the interval of events, how many connections an event lists,
    # and how much may be buffered, and for how long, before a reader that does not read is cut.
    feeds: int = 8
    feed_seconds: float = 0.25
    feed_connections: int = 1_000
    feed_buffer_bytes: int = 262_144
    feed_patience_seconds: float = 10
    # How long a client may take to answer a close frame before its TCP connection is cut.
    close_seconds: float = 2
    # How long the $disconnect handlers get when the gateway stops.
    stop_seconds: float = 1
