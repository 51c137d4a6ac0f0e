"""Frames to one connection or to many, and what became of each.

`delivery` sends: a reply to one connection, a frame to an audience, several frames to each of an audience. `slices`
cuts an audience that is too large for one Lambda into jobs. `threads` shares work between threads.

What always holds: every send ends as sent, gone or failed, and the counts add up to the audience. A slow, greedy or
dead receiver delays no other. Memory does not grow with the audience. A connection counts as gone only after it has
answered 410 twice, some time apart; it is then closed, so that no unregistered socket survives a false 410.

Whatever sends, asks or closes may raise ConfigurationError or TableError: the management endpoint is unknown or cannot
be read. Whatever uses the queue may raise JobsError. `close` and `is_open` raise botocore's errors, too.
"""
