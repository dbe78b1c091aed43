"""Every generator of drawings by name."""

from __future__ import annotations

from scripts.phantoms import outlined, own, patchwork, plain
from scripts.phantoms.drawn import Generator

GENERATORS: dict[str, Generator] = {
    "own": own, "outlined": outlined, "patchwork": patchwork, "plain": plain,
}  # fmt: skip
"""`own` is the program's; the others know nothing of it. Nothing is ever fitted on `patchwork`;
`plain` knows of its cells what they are, and not their patterns."""
