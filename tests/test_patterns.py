"""Patterns from completeness and strength, also exactly at the limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2path.cells.patterns import classify
from her2path.core.schema import INTENSITY, PATTERNS
from her2path.core.settings import MembraneSettings

SETTINGS = MembraneSettings(cutoffs=(0.1, 0.3, 0.7), complete_at=0.8, stained_at=0.1)
BELOW = np.nextafter(np.float32(1), np.float32(0))

CASES = [
    ("no staining", 0.0, 0.0, "none", 0),
    ("too little of the ring", 0.1 * BELOW, 0.9, "none", 0),
    ("too pale", 1.0, 0.1 * BELOW, "none", 0),
    ("exactly stained and exactly faint", 0.1, 0.1, "faint_incomplete", 1),
    ("exactly complete", 0.8, 0.1, "faint_complete", 1),
    ("just not complete", 0.8 * BELOW, 0.3, "moderate_incomplete", 2),
    ("just not moderate", 0.9, 0.3 * BELOW, "faint_complete", 1),
    ("exactly moderate", 0.9, 0.3, "moderate_complete", 2),
    ("just not intense", 0.9, 0.7 * BELOW, "moderate_complete", 2),
    ("exactly intense", 1.0, 0.7, "intense_complete", 3),
    ("intense, incomplete", 0.5, 2.0, "intense_incomplete", 2),
]


def one(completeness: float, strength: float, incomplete: int = 2) -> tuple[str, int, int]:
    columns = np.float32([completeness]), np.float32([strength])
    pattern, intensity, score = classify(*columns, SETTINGS, incomplete)
    return PATTERNS[pattern[0]], int(intensity[0]), int(score[0])


@pytest.mark.parametrize(("name", "completeness", "strength", "pattern", "score"), CASES)
def test_limits(name: str, completeness: float, strength: float, pattern: str, score: int) -> None:
    assert one(completeness, strength) == (pattern, INTENSITY[pattern], score)


def test_intense_incomplete_counts_3_elsewhere() -> None:
    assert one(0.5, 2.0, 3) == ("intense_incomplete", 3, 3)
    assert one(0.5, 0.5, 3)[2] == 2


@given(
    st.lists(
        st.tuples(st.floats(0, 1, width=32), st.floats(0, 3, width=32)), min_size=1, max_size=30
    )
)
def test_more_staining_never_lowers_intensity(cells: list[tuple[float, float]]) -> None:
    c, s = (np.float32(x) for x in zip(*cells, strict=True))
    pattern, intensity, score = classify(c, s, SETTINGS)
    more = classify(np.minimum(c * 2, 1), s * 2, SETTINGS)
    assert (more[1] >= intensity).all()
    assert (more[2] >= score).all()
    assert all(INTENSITY[PATTERNS[p]] == i for p, i in zip(pattern, intensity, strict=True))
    assert pattern.dtype == intensity.dtype == score.dtype == np.int8


def test_columns_must_fit() -> None:
    with pytest.raises(ValueError, match="one length"):
        classify(np.zeros(2, np.float32), np.zeros(3, np.float32), SETTINGS)
    with pytest.raises(ValueError, match="finite"):
        classify(np.float32([np.nan]), np.zeros(1, np.float32), SETTINGS)


def test_no_cells() -> None:
    assert [
        x.size for x in classify(np.zeros(0, np.float32), np.zeros(0, np.float32), SETTINGS)
    ] == [0] * 3
