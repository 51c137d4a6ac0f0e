"""docs/EMULATOR.md says what the tests show: every case is in it as described, and every test it names exists."""

import ast
import re

import pytest

from conformance.document import DOCUMENT, HERE, fill_in, read_cases, write_tables

CASES = list(read_cases())


def test_the_tables_are_those_of_the_tests():
    document = DOCUMENT.read_text()
    assert fill_in(document, write_tables(CASES)) == document, "write them anew: python -m conformance.document"


def test_all_cases_are_there():
    """Sixty that are known of AWS, ten that are presumed."""
    known = {case.id for case in CASES if case.certainty in "AB"}
    presumed = {case.id for case in CASES if case.certainty == "C"}
    assert (len(known), len(presumed)) == (60, 10)
    assert not known & presumed


def test_a_cases_test_has_its_id_and_its_mark():
    for case in CASES:
        assert case.test.startswith(f"test_{case.section}_{case.number}_")
        assert case.is_presumed == (case.certainty == "C")
    tests = {
        node.name
        for path in HERE.glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and re.match(r"test_[A-Z]+_\d\d_", node.name)
    }
    assert tests == {case.test for case in CASES}


def test_every_test_that_is_named_exists():
    tests = {
        f"{path.name}::{node.name}"
        for path in HERE.parent.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    named = set(re.findall(r"`(test_\w+\.py::test_\w+)`", DOCUMENT.read_text()))
    assert len(named) >= 20
    assert named <= tests


def test_a_document_without_a_place_for_a_table_is_refused():
    with pytest.raises(ValueError, match="the document has no place for what is known"):
        fill_in("# Title\n", write_tables(CASES))
