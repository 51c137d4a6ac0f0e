"""Writes the tables of docs/EMULATOR.md: `python -m conformance.document`.

They have the cases of this package: tests whose docstrings begin with id and certainty, `CONN-01 (A): ...`. Nothing is
imported or run.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "EMULATOR.md"
CASE = re.compile(r"([A-Z]+)-(\d\d) \(([ABC])\): (.+)", re.S)
MARKS = ("<!-- {}: written by packages/localgateway/tests/conformance/document.py -->\n", "<!-- end of {} -->\n")


@dataclass(frozen=True, slots=True)
class Case:
    """What one test shows: its id, how certain it is that AWS does the same, and the test itself."""

    section: str
    number: str
    certainty: str
    behaviour: str
    test: str
    is_presumed: bool

    @property
    def id(self) -> str:
        return f"{self.section}-{self.number}"


def read_cases() -> Iterator[Case]:
    """Read every case of this package, in the order of the files' names and of the tests in them."""
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and (match := CASE.fullmatch(ast.get_docstring(node) or "")):
                section, number, certainty, behaviour = match.groups()
                is_presumed = "pytest.mark.presumed" in map(ast.unparse, node.decorator_list)
                yield Case(section, number, certainty, " ".join(behaviour.split()), node.name, is_presumed)


def write_tables(cases: list[Case]) -> dict[str, str]:
    """Return the tables by the names they have in the document: what is known of AWS, and what is presumed."""
    return {
        "what is known": to_table([case for case in cases if not case.is_presumed]),
        "what is presumed": to_table([case for case in cases if case.is_presumed]),
    }


def to_table(cases: list[Case]) -> str:
    rows = [f"| {case.id} | {case.behaviour} | {case.certainty} | `{case.test}` |" for case in cases]
    return "\n".join(["| case | behaviour | certainty | test |", "|---|---|---|---|", *rows, ""])


def fill_in(document: str, tables: dict[str, str]) -> str:
    """Return the document with each table between its marks, in place of what was there."""
    for name, table in tables.items():
        begin, end = (mark.format(name) for mark in MARKS)
        before, found, rest = document.partition(begin)
        _, found_end, after = rest.partition(end)
        if not found or not found_end:
            raise ValueError(f"the document has no place for {name}")
        document = f"{before}{begin}{table}{end}{after}"
    return document


if __name__ == "__main__":
    DOCUMENT.write_text(fill_in(DOCUMENT.read_text(), write_tables(list(read_cases()))))
