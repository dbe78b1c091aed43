"""The reading on drawings: kinds, grades and completeness come out about right.

The nets learn from cells of tissue above all; a drawing is no accuracy. The limits are wide, and
break where a part of the reading is turned off, mixed up or blind.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from her2path.cells import analysis, stain
from her2path.core.geometry import Box, analysis_factor
from her2path.core.settings import Settings
from her2path.phantom import PhantomSpec, make_phantom

#: a find belongs to a nucleus whose centre lies within this, µm
MATCH_UM = 4.0
SETTINGS = Settings()


class Seen(NamedTuple):
    """What the program says of a phantom, and the truth beside it.

    `cells` are its columns, `truth` the cells that have a nucleus and lie well inside; `cell_of`
    is the find of each of them, -1 where it was missed; `near` tells which finds lie at a nucleus.
    """

    cells: dict[str, NDArray]
    truth: dict[str, NDArray]
    cell_of: NDArray[np.int64]
    near: NDArray[np.bool_]

    def said(self, column: str, kind: str = "tumour") -> NDArray:
        """Return a column of the finds that lie on nuclei of one kind."""
        mine = (self.truth["cell_type"] == kind) & (self.cell_of >= 0)
        return self.cells[column][self.cell_of[mine]]


@lru_cache(16)
def seen(pattern: str, seed: int = 23, mpp: float = 0.25, strength: float = 1.0) -> Seen:
    """Read a phantom all of whose tumour cells have one pattern."""
    spec = PhantomSpec.model_validate(
        {
            "seed": seed, "width_um": 320, "height_um": 320, "margin_um": 15, "mpp": mpp,
            "mixture": {pattern: 1.0}, "blur_um": 0.25, "strength": strength, "lymphocytes": 0.5,
        }
    )  # fmt: skip
    phantom = make_phantom(spec)
    optics = analysis.Optics(
        mpp, analysis_factor(mpp), stain.estimate([phantom.rgb], mpp, SETTINGS.stain)
    )
    rgb = phantom.rgb[: phantom.rgb.shape[0] // 2 * 2, : phantom.rgb.shape[1] // 2 * 2]
    box = Box(0, 0, rgb.shape[1], rgb.shape[0])
    raw = analysis.measure(np.ascontiguousarray(rgb), box, box, optics, SETTINGS).raw
    found = analysis.resolve(raw, box, optics, SETTINGS)
    cells = {n: np.array(found[n].to_pylist()) for n in (
        "x_um", "y_um", "cell_type", "pattern", "intensity", "membrane_od", "completeness",
        "kind_certainty", "nucleus_area_um2", "cell_area_um2", "uncertain",
    )}  # fmt: skip
    at = np.stack([cells["x_um"], cells["y_um"]], axis=1)
    table = {n: np.array(phantom.truth[n]) for n in (
        "x_um", "y_um", "cell_type", "has_nucleus", "touches_edge", "nucleus_radius_um",
        "cell_area_um2",
    )}  # fmt: skip
    spots = np.stack([table["x_um"], table["y_um"]], axis=1)[table["has_nucleus"]]
    near = cKDTree(spots).query(at)[0] <= MATCH_UM
    wanted = table["has_nucleus"] & ~table["touches_edge"]
    truth = {name: values[wanted] for name, values in table.items()}
    far, cell_of = cKDTree(at).query(np.stack([truth["x_um"], truth["y_um"]], axis=1))
    return Seen(cells, truth, np.where(far <= MATCH_UM, cell_of, -1), near)


@pytest.mark.parametrize("mpp", [0.25, 0.46])
@pytest.mark.parametrize("pattern", ["none", "moderate_complete"])
def test_nuclei_are_found_and_little_else(pattern: str, mpp: float) -> None:
    got = seen(pattern, mpp=mpp)
    tumour = got.truth["cell_type"] == "tumour"
    assert tumour.sum() > 100
    assert (got.cell_of[tumour] >= 0).mean() > 0.75
    assert got.near.mean() > 0.75
    # hardly a nucleus is found twice
    hits = got.cell_of[got.cell_of >= 0]
    assert got.near.sum() < 1.1 * len(hits)


@pytest.mark.parametrize("pattern", ["none", "moderate_complete"])
def test_tumour_is_told_from_the_rest(pattern: str) -> None:
    got = seen(pattern)
    called = got.said("cell_type") == "tumour"
    assert called.mean() > 0.7
    others = np.concatenate([got.said("cell_type", k) for k in ("lymphocyte", "stroma")])
    assert len(others) > 30
    assert (others == "tumour").mean() < 0.4
    certainty = got.cells["kind_certainty"]
    assert ((certainty >= 0) & (certainty <= 1)).all()


def test_nuclei_and_cells_have_about_their_size() -> None:
    got = seen("moderate_complete")
    mine = (got.truth["cell_type"] == "tumour") & (got.cell_of >= 0)
    for name, true in (
        ("nucleus_area_um2", np.pi * got.truth["nucleus_radius_um"] ** 2),
        ("cell_area_um2", got.truth["cell_area_um2"]),
    ):
        times = got.cells[name][got.cell_of[mine]] / true[mine]
        assert 0.6 < np.median(times) < 1.7, name
    assert (got.cells["cell_area_um2"] > got.cells["nucleus_area_um2"]).all()


def test_bare_cells_read_none_and_stained_ones_do_not() -> None:
    assert (seen("none").said("intensity") > 0).mean() < 0.15
    assert (seen("faint_complete").said("intensity") > 0).mean() > 0.35
    assert (seen("moderate_complete").said("intensity") > 0).mean() > 0.85
    assert (seen("intense_complete").said("intensity") > 0).mean() > 0.9


def test_grades_rise_with_the_stain() -> None:
    grades = [seen(f"{g}_complete") for g in ("faint", "moderate", "intense")]
    od = [np.median(s.said("membrane_od")[s.said("intensity") > 0]) for s in grades]
    assert od[0] * 1.5 < od[1]
    assert od[1] * 1.5 < od[2]
    middle = [np.median(s.said("intensity")) for s in (seen("none"), *grades)]
    assert middle == sorted(middle)
    assert middle[0] == 0
    assert middle[-1] == 3


def test_twice_the_stain_reads_twice_as_dark() -> None:
    plain, twice = (
        np.median(s.said("membrane_od")) for s in (
            seen("moderate_complete"), seen("moderate_complete", strength=2.0)
        )
    )  # fmt: skip
    assert 1.6 < twice / plain < 2.4


@pytest.mark.parametrize("grade", ["moderate", "intense"])
def test_incomplete_rings_read_less_complete(grade: str) -> None:
    whole, part = (seen(f"{grade}_{w}").said("completeness") for w in ("complete", "incomplete"))
    assert np.median(whole) > np.median(part) + 0.15
    assert np.median(whole) > 0.75


def test_another_drawing_reads_alike() -> None:
    one, other = seen("moderate_complete"), seen("moderate_complete", seed=29)
    assert np.median(other.said("membrane_od")) == pytest.approx(
        np.median(one.said("membrane_od")), rel=0.3
    )
