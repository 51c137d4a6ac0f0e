"""Every link in the documents leads somewhere: to a file, and to a heading where it names one."""

import re
from pathlib import Path

import pytest

from tests.conftest import PROJECT

PAGES = sorted(
    page.relative_to(PROJECT)
    for top in PROJECT.iterdir()
    if not top.name.startswith(".")
    for page in ([top] if top.suffix == ".md" else top.rglob("*.md"))
    if "node_modules" not in page.parts
)


def prose(text: str) -> str:
    """Return the text without its code."""
    return re.sub(r"`[^`\n]*`", "`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def slugs(page: Path) -> set[str]:
    """Return the anchors of the page's headings, as they are shown on the web."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_all_pages_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/PROTOCOL.md", "examples/chat/README.md"} <= set(map(str, PAGES))


@pytest.mark.parametrize("name", PAGES, ids=str)
def test_links_inside_the_project_lead_somewhere(name: Path) -> None:
    page = PROJECT / name
    text = prose(page.read_text())
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)", text, re.M)
    for target, anchor in (link.partition("#")[::2] for link in targets if not link.startswith(("http:", "https:"))):
        linked = page.parent / target if target else page
        assert linked.exists(), f"{name} links to {target}"
        if anchor:
            assert anchor in slugs(linked), f"{name} links to {target}#{anchor}"


@pytest.mark.parametrize("name", PAGES, ids=str)
def test_references_of_links_are_defined_and_used(name: Path) -> None:
    text = prose((PROJECT / name).read_text())
    assert set(re.findall(r"\]\[([^\]]+)\]", text)) == set(re.findall(r"^\[([^\]]+)\]: ", text, re.M))
