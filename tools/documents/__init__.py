"""Make the documents for machines, from tables and from the code's own limits. Never ships.

The tables hold what the code cannot tell: which fields an action reads, what an answer has. Tests compare them with the
code, both ways.
"""

from pathlib import Path
from typing import Final

# Of the whole product: its packages and its documents.
VERSION: Final = (Path(__file__).parents[2] / "packages" / "VERSION").read_text().strip()
