"""The fitted trees of the score, read once; `scripts/fit_nuclei.py` makes the file."""

from __future__ import annotations

from functools import cache

from her2path.trees import Trees, read_arrays, read_trees

__all__ = ["FILE", "scoring", "twins"]

#: the file beside this module
FILE = "weights.npz"


@cache
def scoring(with_contrast: bool) -> Trees:
    """Return the trees: those that know the slide's contrast, or those that do not."""
    saved = read_arrays("her2path.nuclei", FILE)
    return read_trees(saved, "with_contrast" if with_contrast else "alone")


@cache
def twins() -> Trees:
    """Return the trees that tell whether two finds are halves of one nucleus."""
    return read_trees(read_arrays("her2path.nuclei", FILE), "twins")
