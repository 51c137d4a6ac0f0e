"""The pages beside PROTOCOL.md say what the code does, and leave nothing out."""

import inspect
import re
import subprocess
from typing import Any

import pytest

from tests.conftest import PROJECT
from tools.documents.routes import ROUTES

README = (PROJECT / "README.md").read_text()
DOCS = PROJECT / "docs"


class TestReadme:
    def test_it_fits_200_lines_of_120_columns(self) -> None:
        prose = re.sub(r"^```.*?^```", "", README, flags=re.M | re.S)
        assert len(README.splitlines()) <= 200
        assert [line for line in prose.splitlines() if len(line) > 120] == []

    def test_it_says_what_people_search_for(self) -> None:
        assert "resumable streams" in " ".join(README.partition("\n## ")[0].split())


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in DOCS.glob("*.md"))])
def test_every_make_target_named_exists(page: str) -> None:
    makefile = (PROJECT / "Makefile").read_text()
    targets = {name for names in re.findall(r"^([a-z][\w -]*):", makefile, re.M) for name in names.split()}
    named = set(re.findall(r"(?:`|^|&& )make ([a-z][\w-]*)", (PROJECT / page).read_text(), re.M))
    assert named <= targets


def test_every_setting_has_its_row_and_no_other() -> None:
    source = (PROJECT / "chalicelib" / "settings.py").read_text()
    read = set(re.findall(r'environ(?:\.get\(|, )\s*"([A-Z_]+)"', source))
    rows = re.findall(r"^\| (`[A-Z_`, ]+`) \|", (DOCS / "SETTINGS.md").read_text(), re.M)
    assert {name for row in rows for name in re.findall(r"[A-Z_]+", row)} == read


def test_every_route_has_its_row_and_no_other() -> None:
    rows = re.findall(r"^\| `([A-Z]+) (/\S*)` \|", (DOCS / "REST.md").read_text(), re.M)
    assert {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path in rows} == {
        (method, re.sub(r"\{\w+\}", "{}", path)) for method, path in ROUTES
    }


def test_every_python_verb_takes_what_its_row_says(peal: Any) -> None:
    rows = re.findall(r"^\| `peal\.(\w+)\((.*?)\)` \|", (DOCS / "PYTHON.md").read_text(), re.M)
    assert len(rows) >= 16
    for verb, documented in rows:
        parameters = inspect.signature(getattr(peal, verb)).parameters.values()
        taken = [
            parameter.name if parameter.default is parameter.empty else f"{parameter.name}={parameter.default}"
            for parameter in parameters
        ]
        assert documented == ", ".join(taken[: documented.count(",") + 1 if documented else 0])


def test_the_client_on_the_page_is_valid_javascript() -> None:
    page = (DOCS / "CLIENTS.md").read_text()
    (client,) = re.findall(r"```js\n(function follow.*?)```", page, re.S)
    try:
        subprocess.run(["node", "--check", "-"], input=client, text=True, check=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("Node.js is not installed")
