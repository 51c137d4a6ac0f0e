"""The documents that machines read, made from tables beside the code and from its own limits. Never ships.

The tables say what the code cannot be asked for: which fields an action reads, what an answer has. The tests hold them
against the code, both ways.
"""

from pathlib import Path
from typing import Final

# Of the whole product: its packages and its documents.
VERSION: Final = (Path(__file__).parents[2] / "packages" / "VERSION").read_text().strip()
