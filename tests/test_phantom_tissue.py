"""How dark the drawn lines are, beside lines that were measured on tissue."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from her2path.phantom import Phantom, PhantomSpec, make_phantom

#: crest of the visible line on tissue by the grade that two readers gave: OD of the median ray,
#: 10, 50 and 90 % of the cells (docs/phantom.md)
TISSUE = {
    "none": (0.02, 0.03, 0.06),
    "faint": (0.04, 0.07, 0.11),
    "moderate": (0.13, 0.24, 0.42),
    "intense": (0.35, 0.44, 0.76),
}
#: a middle may be so many times lighter or darker than on tissue. Strong ones rest on 17 cells of
#: one laboratory, whose 3+ is pale beside others' (crests up to 2.8 OD): drawn ones are darker
TIMES = {"faint": 1.6, "moderate": 1.6, "intense": 2.5}
#: an outer decile may be off by so much more
OUTER = 1.3
RAYS = 48


def dab_od(phantom: Phantom) -> NDArray[np.float64]:
    """Unmix by least squares, independently of the package: DAB OD (H, W)."""
    spec = phantom.spec
    light = np.maximum(phantom.rgb.astype(np.float64), 1.0) / np.array(spec.white)
    vectors = np.array([spec.hematoxylin, spec.dab])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return (-np.log10(light) @ np.linalg.pinv(vectors))[..., 1]


def visible_crests(phantom: Phantom) -> NDArray[np.float64]:
    """Return the median over 48 rays of the highest OD 2.5 to 10 µm from each nucleus."""
    mpp, truth = phantom.spec.mpp, phantom.truth
    seen = gaussian_filter(dab_od(phantom), 0.2 / mpp)
    wanted = np.array(truth["cell_type"]) == "tumour"
    wanted &= np.array(truth["has_nucleus"]) & ~np.array(truth["touches_edge"])
    x, y = (np.array(truth[name])[wanted, None, None] for name in ("x_um", "y_um"))
    angle = np.arange(RAYS)[:, None] * (2 * np.pi / RAYS)
    reach = np.arange(2.5, 10.0, 0.125)
    at = np.stack([y + reach * np.sin(angle), x + reach * np.cos(angle)]) / mpp - 0.5
    rays = map_coordinates(seen, at, order=1, mode="nearest").max(axis=2)
    return np.median(rays, axis=1)


def deciles(pattern: str, **fixed: object) -> NDArray[np.float64]:
    """Return 10, 50 and 90 % of the cells' visible crests where all cells have one pattern."""
    spec = PhantomSpec.model_validate(
        {
            "seed": 17, "width_um": 260, "height_um": 260, "margin_um": 10, "mpp": 0.25,
            "blur_um": 0.2, "strength": 1.0, "mixture": {pattern: 1.0}, **fixed,
        }
    )  # fmt: skip
    crests = visible_crests(make_phantom(spec))
    assert len(crests) > 60
    return np.quantile(crests, (0.1, 0.5, 0.9))


@pytest.fixture(scope="module")
def drawn() -> dict[str, NDArray[np.float64]]:
    grades = {g: "none" if g == "none" else f"{g}_complete" for g in TISSUE}
    return {grade: deciles(pattern) for grade, pattern in grades.items()}


@pytest.mark.parametrize("grade", ["faint", "moderate", "intense"])
def test_drawn_lines_are_as_dark_as_those_of_tissue(
    grade: str, drawn: dict[str, NDArray[np.float64]]
) -> None:
    times = drawn[grade] / TISSUE[grade]
    most = TIMES[grade]
    assert 1 / most < times[1] < most
    assert ((1 / (OUTER * most) < times) & (times < OUTER * most)).all()


def test_bare_cells_show_hardly_any_line(drawn: dict[str, NDArray[np.float64]]) -> None:
    assert drawn["none"][1] < drawn["faint"][0]
    assert drawn["none"][1] < 1.6 * TISSUE["none"][1]


def test_grades_rise_and_hardly_overlap(drawn: dict[str, NDArray[np.float64]]) -> None:
    middles = [drawn[grade][1] for grade in TISSUE]
    assert middles == sorted(middles)
    for weaker, stronger in (("faint", "moderate"), ("moderate", "intense")):
        assert drawn[weaker][1] < drawn[stronger][0]
        assert drawn[weaker][2] < drawn[stronger][1]


def test_a_stronger_stain_is_darker_in_proportion(drawn: dict[str, NDArray[np.float64]]) -> None:
    twice = deciles("moderate_complete", strength=2.0)
    assert twice[1] / drawn["moderate"][1] == pytest.approx(2.0, rel=0.15)
