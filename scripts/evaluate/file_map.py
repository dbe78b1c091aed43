"""Writes the map of the code, a line a file, into ``docs/architecture.md``.

The lines are the first sentences of the modules' docstrings, so that the map says what the code
says. A test holds the two together.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
HEAD = "## The code, file by file\n"


def file_map(package: Path) -> str:
    """Return the map of a package: a heading a wing, a line a file."""
    lines: list[str] = []
    wing = None
    places = [p.relative_to(package) for p in package.rglob("*.py")]
    for place in sorted(places, key=lambda p: (len(p.parts) > 1, p.as_posix())):
        if len(place.parts) > 1 and place.parts[0] != wing:
            wing = place.parts[0]
            lines += ["", f"### {wing}", ""]
        text = ast.get_docstring(ast.parse((package / place).read_text(encoding="utf-8"))) or ""
        lines.append(f"- `{place.as_posix()}`: {' '.join(text.split(chr(10) * 2)[0].split())}")
    return HEAD + "\n" + "\n".join(lines).strip() + "\n"


def main() -> None:
    """Replace the map in the page, or add it at its end."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text.split(HEAD)[0].rstrip() + "\n\n" + file_map(ROOT / "her2path"), "utf-8")


if __name__ == "__main__":
    main()
