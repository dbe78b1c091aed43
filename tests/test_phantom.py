"""Phantoms: what the truth says is what the pixels show."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from her2path.core.schema import PATTERNS
from her2path.phantom import TRUTH_SCHEMA, Phantom, PhantomSpec, make_phantom, random_spec
from her2path.phantom.cells import assign_kinds, stain_membranes
from her2path.phantom.layout import lay_out
from her2path.phantom.paint import Painter, Scene
from her2path.phantom.presets import TUMOURS
from her2path.phantom.stroma import make_stroma

INTENSE = {"intense_complete": 1.0}
SMALL = {"width_um": 150.0, "height_um": 150.0, "margin_um": 12.0}
CLEAN = {
    "blur_um": 0.0, "noise": 0.0, "blush": 0.0, "nuclear_dab": 0.0, "background_dab": 0.0,
    "precipitate": 0.0, "refractile": 0.0, "red_cells": 0.0, "tangential": 0.0, "granularity": 0.0,
    "lymphocytes": 0.0,
}  # fmt: skip


def stains(phantom: Phantom) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unmix by least squares, independently of the package: hematoxylin, DAB (H, W)."""
    spec = phantom.spec
    light = np.maximum(phantom.rgb.astype(np.float64), 1.0) / np.array(spec.white)
    vectors = np.array([spec.hematoxylin, spec.dab])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    amounts = -np.log10(light) @ np.linalg.pinv(vectors)
    return amounts[..., 0], amounts[..., 1]


def tumour(phantom: Phantom, column: str) -> NDArray[np.generic]:
    """Column of the tumour cells."""
    rows = np.array(phantom.truth["cell_type"]) == "tumour"
    return np.array(phantom.truth[column])[rows]


def ring_maximum(phantom: Phantom) -> NDArray[np.float64]:
    """Mean over 32 directions of the highest DAB OD within 9 um of each tumour cell."""
    dab = stains(phantom)[1]
    x, y = tumour(phantom, "x_um"), tumour(phantom, "y_um")
    angle = np.arange(32) * np.pi / 16
    reach = np.arange(2.0, 9.0, 0.25)
    px = x[:, None, None] + reach * np.cos(angle)[:, None]
    py = y[:, None, None] + reach * np.sin(angle)[:, None]
    at = np.stack([py, px]) / phantom.spec.mpp - 0.5
    return map_coordinates(dab, at, order=1, mode="nearest").max(axis=2).mean(axis=1)


def same_neighbours(phantom: Phantom) -> float:
    """Excess over chance of equal populations among the 6 nearest tumour cells."""
    at = np.stack([tumour(phantom, "x_um"), tumour(phantom, "y_um")], axis=1).astype(float)
    second = tumour(phantom, "population") == "second"
    near = cKDTree(at).query(at, 7)[1][:, 1:]
    value = second - second.mean()
    return float((value[:, None] * value[near]).mean() / value.var())


def mixed(layout: str, share: float, **fixed: object) -> Phantom:
    """An intense second population in an unstained tumour."""
    return make_phantom(
        PhantomSpec.model_validate(
            {
                "seed": 5, "width_um": 320, "height_um": 320, "layout": layout,
                "mixture": {"none": 1.0}, "second": INTENSE, "second_fraction": share,
                "clone_um": 120, **fixed,
            }
        )
    )  # fmt: skip


def test_same_spec_same_phantom() -> None:
    spec = random_spec(3, **SMALL)
    first, again = make_phantom(spec), make_phantom(spec)
    assert np.array_equal(first.rgb, again.rgb)
    assert first.truth.equals(again.truth)
    other = make_phantom(spec.model_copy(update={"seed": 4}))
    assert not np.array_equal(first.rgb, other.rgb)


def test_tiles_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = random_spec(8, mpp=0.25, **SMALL)
    whole = make_phantom(spec).rgb.astype(int)
    monkeypatch.setattr("her2path.phantom.paint.TILE_PX", 208)
    assert np.abs(make_phantom(spec).rgb.astype(int) - whole).max() <= 1


@pytest.mark.parametrize("seed", range(20))
def test_random_specs_render(seed: int) -> None:
    phantom = make_phantom(random_spec(seed, **SMALL))
    spec, truth = phantom.spec, phantom.truth
    assert phantom.rgb.shape == (spec.height_px, spec.width_px, 3)
    assert truth.schema == TRUTH_SCHEMA
    assert tumour(phantom, "pattern").size >= 10
    assert phantom.rgb.std() > 5
    white = np.median(phantom.rgb[:20].reshape(-1, 3), axis=0)
    assert np.abs(white - np.array(spec.white)).max() < 4
    for name in ("od_crest", "completeness", "width_um", "shared_fraction"):
        value = np.array(truth[name])
        assert np.isfinite(value).all()
        assert (value >= 0).all()
    assert np.array(truth["completeness"]).max() <= 1
    assert np.array(truth["shared_fraction"]).max() <= 1 + 1e-9


def test_pattern_follows_from_completeness() -> None:
    even = dict.fromkeys(PATTERNS, 1.0)
    for edge in (False, True):
        phantom = make_phantom(PhantomSpec(mixture=even, knife_edge=edge, seed=2))
        reached, pattern = tumour(phantom, "completeness"), tumour(phantom, "pattern")
        for value, name in zip(reached, pattern, strict=True):
            assert (value >= 0.80) == name.endswith("_complete")
            assert (value > 0) == (name != "none")
        between = ((reached > 0.72) & (reached < 0.85)).sum()
        assert (between > 10) if edge else (between == 0)


def test_fractions_meet_the_mixture() -> None:
    phantom = make_phantom(PhantomSpec(mixture=TUMOURS["2+"], seed=9))
    n = tumour(phantom, "pattern").size
    for name, share in phantom.areas["fractions"].items():
        assert share == pytest.approx(TUMOURS["2+"].get(name, 0.0), abs=1.01 / n)
    intensity = tumour(phantom, "intensity").astype(float)
    assert phantom.areas["h_score"] == pytest.approx(100 * intensity.mean())
    assert sum(phantom.regions["tumour_cells"].to_pylist()) == n


def test_second_fraction_is_met() -> None:
    for layout, share in (("clustered", 0.3), ("mosaic", 0.3), ("scattered", 0.06)):
        second = tumour(mixed(layout, share), "population") == "second"
        assert second.mean() == pytest.approx(share, abs=1.01 / second.size)


def test_layouts_order_by_neighbourhood() -> None:
    clustered = same_neighbours(mixed("clustered", 0.3))
    mosaic = same_neighbours(mixed("mosaic", 0.3))
    scattered = same_neighbours(mixed("scattered", 0.08))
    assert clustered > 0.4
    assert abs(mosaic) < 0.12
    assert scattered < 0.02


def test_clones_by_nest_keep_nests_whole() -> None:
    phantom = mixed("clustered", 0.4, clones_by_nest=True, nest_um=50, tumour_share=0.4)
    nest, second = tumour(phantom, "nest_id"), tumour(phantom, "population") == "second"
    assert np.unique(nest).size > 2
    for number in np.unique(nest):
        assert np.unique(second[nest == number]).size == 1


def test_stained_cells_are_brown_and_unstained_ones_are_not() -> None:
    rings = {}
    for name in ("none", "faint_complete", "moderate_complete", "intense_complete"):
        spec = PhantomSpec.model_validate({**SMALL, "mixture": {name: 1.0}, "seed": 6})
        rings[name] = np.median(ring_maximum(make_phantom(spec)))
    assert rings["none"] < 0.12
    assert rings["none"] + 0.02 < rings["faint_complete"]
    assert 1.6 * rings["faint_complete"] < rings["moderate_complete"]
    assert 1.6 * rings["moderate_complete"] < rings["intense_complete"]


def crest(spec: PhantomSpec, *, shared: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """DAB OD in the image and own OD by truth, at stained points of outlines.

    Either at free borders, or where the cell across is unstained.
    """
    bodies = lay_out(spec)[1]
    kinds = assign_kinds(spec, bodies)
    stain = stain_membranes(spec, bodies, kinds.pattern)
    unstained = np.append(kinds.pattern == 0, False)[bodies.neighbour]
    use = (stain.od > 0.04) & (
        (bodies.neighbour >= 0) & unstained if shared else bodies.neighbour < 0
    )
    use &= (bodies.x > 5) & (bodies.y > 5) & (bodies.x < 145) & (bodies.y < 145)
    at = np.stack([bodies.y[use], bodies.x[use]]) / spec.mpp - 0.5
    return map_coordinates(stains(make_phantom(spec))[1], at, order=1), stain.od[use]


@pytest.mark.parametrize("shared", [False, True])
def test_crest_od_is_the_cells_own(*, shared: bool) -> None:
    patterns = {"none": 0.6, "moderate_complete": 0.4} if shared else {"moderate_complete": 1.0}
    spec = PhantomSpec.model_validate(
        {**SMALL, **CLEAN, "mpp": 0.2, "mixture": patterns, "broken": 0.0, "gap_share": 0.0}
    )
    seen, own = crest(spec, shared=shared)
    assert own.size > 300
    assert np.median(seen / own) == pytest.approx(1.0, abs=0.12)


def test_unstained_phantom_holds_no_dab() -> None:
    spec = PhantomSpec.model_validate(
        {**SMALL, **CLEAN, "mpp": 0.5, "mixture": {"none": 1.0}, "subsampling": "4:2:0"}
    )
    phantom = make_phantom(spec)
    assert not np.array(phantom.truth["od_crest"]).any()
    assert not np.array(phantom.truth["intensity"]).any()
    assert set(phantom.truth["pattern"].to_pylist()) == {"none"}
    assert np.quantile(stains(phantom)[1], 0.999) < 0.03


def test_strength_scales_the_truth() -> None:
    base = PhantomSpec.model_validate({**SMALL, "mixture": INTENSE})
    weak = make_phantom(base.model_copy(update={"strength": 0.5}))
    full = make_phantom(base)
    ratio = tumour(weak, "od_crest") / tumour(full, "od_crest")
    assert ratio == pytest.approx(np.full(ratio.size, 0.5))
    assert ring_maximum(weak).mean() < 0.75 * ring_maximum(full).mean()


def test_nuclei_lie_where_the_truth_says() -> None:
    phantom = make_phantom(PhantomSpec.model_validate({**SMALL, "mixture": {"none": 1.0}}))
    blue = stains(phantom)[0]
    at = np.stack([tumour(phantom, "y_um"), tumour(phantom, "x_um")]).astype(float)
    value = map_coordinates(blue, at / phantom.spec.mpp - 0.5, order=1)
    has = tumour(phantom, "has_nucleus").astype(bool)
    assert 0 < (~has).sum() < 0.3 * has.size
    assert np.median(value[has]) > 1.8 * np.median(value[~has])
    radius = tumour(phantom, "nucleus_radius_um")[has]
    assert radius.min() > 2.0
    assert radius.max() < 7.5


def test_artefacts_are_marked_in_the_truth() -> None:
    plain = PhantomSpec(seed=1, width_um=300, height_um=300)
    spoilt = plain.model_copy(update={"folds": 1, "out_of_focus": 1, "pen": 1, "dust": 30})
    before, after = make_phantom(plain), make_phantom(spoilt)
    for column in ("in_fold", "out_of_focus", "under_pen"):
        assert not np.array(before.truth[column]).any()
        assert 0 < np.array(after.truth[column]).mean() < 0.8
    changed = np.abs(before.rgb.astype(int) - after.rgb.astype(int)).max(axis=2) > 40
    assert 0.01 < changed.mean() < 0.8
    assert before.truth.drop(["in_fold", "out_of_focus", "under_pen"]).equals(
        after.truth.drop(["in_fold", "out_of_focus", "under_pen"])
    )


def test_scene_without_tumour_paints() -> None:
    spec = PhantomSpec.model_validate({**SMALL, "tumour_share": 0.0, "columnar_share": 0.0})
    phantom = make_phantom(spec)
    assert phantom.areas["h_score"] is None
    assert phantom.areas["cells"]["tumour"] == 0
    assert phantom.areas["cells"]["lymphocyte"] > 0


def test_painter_keeps_lengths_at_any_pixel_size() -> None:
    means = []
    for mpp in (0.2, 0.25, 0.5):
        spec = PhantomSpec.model_validate({**SMALL, "mpp": mpp, "noise": 0.0, "seed": 4})
        ground, bodies = lay_out(spec)
        stain = stain_membranes(spec, bodies, assign_kinds(spec, bodies).pattern)
        nothing = np.empty((0, 19))
        scene = Scene(ground, bodies, stain, nothing, make_stroma(spec, ground, nothing))
        means.append(Painter(spec, scene).paint().mean(axis=(0, 1)))
    assert means[0] == pytest.approx(means[1], abs=0.5)
    assert means[0] == pytest.approx(means[2], abs=0.5)


HOSTILE = [
    ({"mpp": 0.0}, "mpp"),
    ({"mpp": float("nan")}, "mpp"),
    ({"seed": -1}, "seed"),
    ({"width_um": 1e9}, "width_um"),
    ({"width_um": 50_000, "height_um": 50_000, "margin_um": 0}, "too many pixels"),
    ({"mixture": {}}, "at least one pattern"),
    ({"mixture": {"intense": 1.0}}, "intense_complete"),
    ({"mixture": {"none": -1.0}}, "negative"),
    ({"mixture": {"none": 0.0}}, "all be zero"),
    ({"layout": "striped"}, "layout"),
    ({"layout": "mosaic", "second": INTENSE, "second_fraction": 0.9}, "second_fraction"),
    ({"layout": "clustered", "second_fraction": 0.3}, "second population"),
    ({"second_fraction": 0.3}, "homogeneous"),
    ({"dab": (0.0, 0.0, 0.0)}, "stain vector"),
    ({"white": (10.0, 10.0, 10.0)}, "white point"),
    ({"od_faint": (0.4, 0.1)}, "OD range"),
    ({"width_faint_um": (0.64, 3.0)}, "width"),
    ({"margin_um": 200.0}, "margin_um"),
    ({"jpeg_quality": 0}, "jpeg_quality"),
    ({"subsampling": "4:1:1"}, "subsampling"),
    ({"strenght": 1.0}, "strenght"),
]


@pytest.mark.parametrize(("values", "names"), HOSTILE, ids=lambda v: str(v)[:40])
def test_hostile_values_are_refused_clearly(values: dict[str, object], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        PhantomSpec.model_validate(values)
