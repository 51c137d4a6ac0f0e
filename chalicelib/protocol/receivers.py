"""Who is sent something, and in which codec. Pure."""

from typing import Final, NamedTuple

# The names of the codecs, as they stand in the table: action frames, and Centrifugo's client protocol.
PEAL: Final = "peal"
CENTRIFUGE: Final = "centrifuge"


class Receiver(NamedTuple):
    """A connection, and the name of the codec it reads."""

    connection_id: str
    codec: str = PEAL
