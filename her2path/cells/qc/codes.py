"""The codes of the quality map: a bit each, named as HistoQC names them where it knows one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from her2path.core.settings import QcSettings

__all__ = ["CODES", "Code", "first_code", "left_out_bits", "names_of"]


@dataclass(frozen=True)
class Code:
    """One kind of artefact: its bit of the map, the words for people, its colour there."""

    name: str
    bit: int
    words: str
    colour: str

    @property
    def value(self) -> int:
        """What it adds to a map cell."""
        return 1 << self.bit


_ALL = (
    ("blurry", "out of focus", "#d62728"),
    ("pen_markings", "pen", "#17becf"),
    ("folds", "folds", "#9467bd"),
    ("bubbles", "air bubbles", "#1f77b4"),
    ("dust", "dust, smudges and precipitate", "#111111"),
    ("edges", "tears and edge artefact", "#ff7f0e"),
    ("necrosis", "necrosis, fibrin, debris or blood", "#8c564b"),
    ("background", "blush and background", "#bcbd22"),
    ("saturation", "clipped white or black", "#e377c2"),
    ("compression", "JPEG damage", "#2ca02c"),
    ("pale", "weak counterstain", "#7f9fbf"),
    ("no_epithelium", "no epithelium (stays in)", "#bbbbbb"),
)
#: every code by its name, in the order of their bits
CODES: dict[str, Code] = {n: Code(n, bit, w, c) for bit, (n, w, c) in enumerate(_ALL)}


def left_out_bits(settings: QcSettings) -> int:
    """Return the bits that leave a map cell out of every figure under these settings."""
    return sum(c.value for c in CODES.values() if getattr(settings, c.name, False))


def first_code(codes: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Return for every map cell 1 + the lowest bit of its codes, 0 where there is none."""
    # a map of an earlier version has 8 bits
    codes, first = codes.astype(np.uint16), np.zeros(codes.shape, np.uint8)
    for code in reversed(CODES.values()):
        first[(codes & code.value) > 0] = code.bit + 1
    return first


def names_of(codes: npt.NDArray[np.integer]) -> list[str]:
    """Return the names of the codes that occur in a map."""
    found = int(np.bitwise_or.reduce(codes, axis=None)) if codes.size else 0
    return [c.name for c in CODES.values() if found & c.value]
