"""The documents: every link leads somewhere, every script that is named is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / n for n in (
    "README.md", "CHANGELOG.md", "models/README.md", "scripts/README.md"))])  # fmt: skip
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def _anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings have on GitHub."""
    heads = re.findall(r"^#+ +(.*?)\s*$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_script_that_is_named_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"python -m (scripts(?:\.[a-z_]+)+)", text):
        assert (ROOT / (name.replace(".", "/") + ".py")).is_file(), name
    for name in re.findall(r"\bscripts/[a-z_/]+\.py", text):
        assert (ROOT / name).is_file(), name


def test_figures_say_with_which_weights() -> None:
    """Each row of the index: figures, command, input, weights; none is empty."""
    text = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[.*\|$", text.split("\n## ")[0], re.MULTILINE)
    assert len(rows) > 10
    for row in rows:
        cells = [c.strip() for c in row.strip("|").split("|")]
        assert len(cells) == 4
        assert all(cells), row
    linked = set(re.findall(r"^\| \[[^\]]*\]\(#([^)]*)\)", text, re.MULTILINE))
    assert linked == {a for a in _anchors(ROOT / "docs" / "figures.md") if a != "measured-figures"}
