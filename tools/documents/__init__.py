"""The documents that machines read, made from tables beside the code and from its own limits. Never ships.

The tables say what the code cannot be asked for: which fields an action reads, what an answer has. The tests hold them
against the code, both ways.
"""

from typing import Final

# Until the first release there is one only; CHANGELOG.md says what has changed.
VERSION: Final = "0.1.0"
