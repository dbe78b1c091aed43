"""Tumour-cell selection: exact for any cut, and what it takes for tumour."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial import cKDTree

from her2path.geometry import analysis_factor
from her2path.nuclei import are_sure, find_nuclei, typical_contrast
from her2path.nuclei.table import RAYS, Nuclei
from her2path.phantom import PhantomSpec, make_phantom
from her2path.settings import NucleiSettings, Settings, TumourSettings
from her2path.stain import estimate, reduce_unmix
from her2path.trees import read_arrays
from her2path.tumour import (
    REACH_UM,
    SURROUNDINGS,
    classify,
    opinion,
    sampled_nuclei,
    second_opinion,
    surroundings,
    usual_nuclei,
)
from her2path.tumour._kernels import bucket, neighbour_means, neighbour_ranks, neighbourhood
from her2path.tumour._look import LANES
from her2path.tumour.features import FIRST, SECOND, first_features, second_features
from her2path.tumour.look import LOOK_COLUMNS, SIDE, SOFT_UM, STEP_UM, look, patches
from her2path.tumour.usual import usual_of
from her2path.tumour.weights import FILE, model, net

REAL = os.environ.get("HER2PATH_REAL_DATA")
needs_real = pytest.mark.skipif(not REAL, reason="HER2PATH_REAL_DATA is not set")
MARKS = Path(__file__).parent / "data" / "real_nuclei_marks.csv"
RINGS_H = ("ring_h20", "ring_h50", "ring_h80", "outer_h50", "inside_h10", "inside_h90")
MEASURES = (
    "hematoxylin_od", "elongation", "contrast", "irregularity", "texture", "confidence",
)  # fmt: skip


def random_cells(n: int, side_um: float, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    fixed = rng.integers(0, int(side_um * 32), (n, 2))
    f32 = np.float32
    return {
        "cell_id": fixed[:, 1] * (1 << 31) + fixed[:, 0],
        "x_um": fixed[:, 0] * (0.5 / 16),
        "y_um": fixed[:, 1] * (0.5 / 16),
        "nucleus_area_um2": rng.uniform(10, 120, n).astype(f32),
        "nucleus_hematoxylin_od": rng.uniform(0.05, 0.8, n).astype(f32),
        "nucleus_elongation": rng.uniform(1, 4, n).astype(f32),
        "nucleus_contrast": rng.uniform(0, 0.3, n).astype(f32),
        "nucleus_irregularity": rng.uniform(0, 0.3, n).astype(f32),
        "nucleus_texture": rng.uniform(0.05, 0.6, n).astype(f32),
        "nucleus_confidence": rng.uniform(0, 1, n).astype(f32),
        "ring_h20": rng.uniform(0, 0.2, n).astype(f32),
        "ring_h50": rng.uniform(0, 0.3, n).astype(f32),
        "ring_h80": rng.uniform(0.1, 0.4, n).astype(f32),
        "outer_h50": rng.uniform(0, 0.3, n).astype(f32),
        "inside_h10": rng.uniform(0, 0.3, n).astype(f32),
        "inside_h90": rng.uniform(0.2, 0.9, n).astype(f32),
        "nucleus_dab_od": rng.uniform(-0.02, 0.3, n).astype(f32),
        "ring_d30": rng.uniform(-0.02, 0.2, n).astype(f32),
        "ring_d80": rng.uniform(0, 0.5, n).astype(f32),
        "look_tumour": rng.normal(0, 3, n).astype(f32),
        "look_false": rng.normal(-3, 2, n).astype(f32),
    }


def take(columns: dict[str, np.ndarray], which: np.ndarray) -> dict[str, np.ndarray]:
    return {k: v[which] for k, v in columns.items()}


# -- exactness -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_any_cut_gives_the_same_bits(seed: int) -> None:
    cells = random_cells(4000, 900.0, seed)
    whole = classify(cells, np.ones(4000, bool), TumourSettings())
    rng = np.random.default_rng(seed)
    x, y = cells["x_um"], cells["y_um"]
    x0, y0 = rng.uniform(0, 600, 2)
    w, h = rng.uniform(50, 300, 2)
    core = (x >= x0) & (x < x0 + w) & (y >= y0) & (y < y0 + h)
    read = (x > x0 - REACH_UM) & (x < x0 + w + REACH_UM)
    read &= (y > y0 - REACH_UM) & (y < y0 + h + REACH_UM)
    order = rng.permutation(np.flatnonzero(read))
    part = classify(take(cells, order), core[order], TumourSettings())
    assert np.array_equal(part, whole[order][core[order]])


def test_cells_farther_than_the_reach_do_not_matter() -> None:
    cells = random_cells(500, 200.0)
    far = random_cells(500, 200.0, 1)
    far["x_um"] = far["x_um"] + 200.0 + REACH_UM
    far["cell_id"] = far["cell_id"] + 10**7
    both = {k: np.concatenate([cells[k], far[k]]) for k in cells}
    alone = classify(cells, np.ones(500, bool), TumourSettings())
    core = np.arange(1000) < 500
    assert np.array_equal(classify(both, core, TumourSettings()), alone)


def test_neighbour_means_against_a_plain_loop() -> None:
    cells = random_cells(120, 150.0)
    x, y, ids = cells["x_um"], cells["y_um"], cells["cell_id"]
    values = np.random.default_rng(0).random((120, 2))
    means, weight = neighbour_means(bucket(x, y, ids, 40.0), values, (20.0, 40.0))
    for r, reach in enumerate((20.0, 40.0)):
        for i in range(120):
            d2 = (x - x[i]) ** 2 + (y - y[i]) ** 2
            w = np.where((d2 < reach**2) & (np.arange(120) != i), (1 - d2 / reach**2) ** 2, 0.0)
            assert weight[r, i] == pytest.approx(w.sum())
            if w.sum():
                assert means[r, i] == pytest.approx((w[:, None] * values).sum(0) / w.sum())


def test_neighbour_means_of_some_columns_are_those_of_all() -> None:
    cells = random_cells(200, 150.0)
    near = bucket(cells["x_um"], cells["y_um"], cells["cell_id"], 40.0)
    values = np.random.default_rng(0).random((200, 3))
    full, weight = neighbour_means(near, values, (20.0, 40.0))
    some, same = neighbour_means(near, values, (20.0, 40.0), ((1, 2), (0, 2)))
    assert np.array_equal(weight, same)
    assert np.array_equal(some[0, :, 1], full[0, :, 1])
    assert np.array_equal(some[1, :, :2], full[1, :, :2])
    assert not some[0, :, [0, 2]].any()
    assert not some[1, :, 2].any()


def test_a_cell_is_held_against_tumour_like_neighbours_and_against_others() -> None:
    cells = random_cells(3, 100.0)
    cells["x_um"], cells["y_um"] = np.array([50.0, 60.0, 40.0]), np.full(3, 50.0)
    cells["nucleus_area_um2"] = np.array([20.0, 60.0, 20.0], np.float32)
    odds = np.array([0.0, 6.0, -6.0])
    got = dict(zip(SECOND, second_features(first_features(cells), odds)[0], strict=True))
    weight, share = (1 - 10**2 / 40**2) ** 2, 1 / (1 + np.exp(-6))
    area = np.log(20 / 60)
    assert got["beside_tumour_area"] == pytest.approx(area * weight * share / (weight + 0.3))
    assert got["beside_others_area"] == pytest.approx(area * weight * (1 - share) / (weight + 0.3))
    assert got["tumour_near"] == pytest.approx(got["others_near"])


def test_a_double_sees_the_more_trusted_one_beside_it() -> None:
    x, y = np.array([10.0, 13.0, 40.0]), np.array([10.0, 10.0, 10.0])
    ids, trust = np.arange(3), np.array([0.5, 0.9, 0.7])
    radius = np.array([2.0, 4.0, 3.0])
    got = neighbourhood(bucket(x, y, ids, 60.0), ids, radius, trust)
    assert got[0] == pytest.approx([3.0, 3.0, 0.5, 0.4, np.log(2), 1.0])
    assert got[1] == pytest.approx([3.0, 12.0, -1.0, 0.0, 0.0, 1.0])
    assert got[2] == pytest.approx([12.0, 12.0, -1.0, 0.0, 0.0, 0.0])


def test_trees_against_a_plain_walk() -> None:
    saved = read_arrays("her2path.tumour", FILE)
    stage = model().first
    feature, limit, left, right, value, root = (
        saved[f"first_{n}"] for n in ("feature", "limit", "left", "right", "value", "root")
    )
    table = np.random.default_rng(0).normal(0, 1, (40, len(stage.names)))
    for row, got in zip(table, stage.odds(table), strict=True):
        total = stage.base
        for first in root:
            node = first
            while feature[node] >= 0:
                node = first + (left if row[feature[node]] <= limit[node] else right)[node]
            total += float(value[node])
        assert got == pytest.approx(total)


def test_a_lonely_cell_is_judged_and_none_is_no_error() -> None:
    one = random_cells(1, 100.0)
    assert np.isfinite(classify(one, np.ones(1, bool), TumourSettings())).all()
    none = random_cells(0, 100.0)
    assert classify(none, np.ones(0, bool), TumourSettings()).shape == (0,)


def test_all_counts_every_cell() -> None:
    cells = random_cells(50, 100.0)
    core = np.arange(50) < 20
    assert classify(cells, core, TumourSettings(method="all")).tolist() == [1.0] * 20


def test_features_and_trees_have_the_same_names() -> None:
    assert model().first.names == FIRST
    assert model().second.names == SECOND
    table = first_features(random_cells(30, 100.0))
    assert table.values.shape == (30, len(FIRST))
    assert second_features(table, np.zeros(30)).shape == (30, len(SECOND))
    for stage in (model().first, model().second):
        assert stage.feature.max() < len(stage.names)
        leaf = stage.child[::2] == np.arange(len(stage.value))
        assert (stage.value[~leaf] == 0).all()
        assert (stage.child.reshape(-1, 2)[~leaf] > np.flatnonzero(~leaf)[:, None]).all()
        assert np.isfinite(stage.value).all()
        assert len(stage.root) == len(set(stage.root.tolist()))


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_relative_measures_do_not_follow_the_counterstain(strength: float) -> None:
    cells = random_cells(300, 200.0)
    other = dict(cells)
    for name in ("nucleus_hematoxylin_od", "nucleus_contrast", "nucleus_dab_od", *RINGS_H):
        other[name] = (cells[name] * np.float32(strength)).astype(np.float32)
    a = classify(cells, np.ones(300, bool), TumourSettings(usual_nuclei=(40.0, 90.0, 0.3)))
    usual = TumourSettings(usual_nuclei=(40.0, 90.0, 0.3 * strength))
    b = classify(other, np.ones(300, bool), usual)
    assert ((a >= 0.5) == (b >= 0.5)).mean() > 0.97


# -- the ring around a nucleus -------------------------------------------------------------------


def test_rings_see_what_lies_around() -> None:
    h = np.full((80, 80), 0.05, np.float32)
    d = np.zeros((80, 80), np.float32)
    y, x = np.mgrid[0:80, 0:80]
    r = np.hypot(x - 40, y - 40)
    h[r < 8] = 0.6
    d[(r > 11) & (r < 14)] = 0.4
    got = surroundings(nucleus(40.0, 40.0, 8.5), h, d, 0.5)
    assert got["ring_h50"][0] == pytest.approx(0.05, abs=0.002)
    assert got["ring_d80"][0] == pytest.approx(0.4, abs=0.002)
    assert got["ring_d30"][0] == pytest.approx(0.0, abs=0.002)


def nucleus(y: float, x: float, radius: float) -> Nuclei:
    one = np.ones(1, np.float32)
    zero = dict.fromkeys(Nuclei.__dataclass_fields__, 0 * one)
    zero |= {"y": y * one, "x": x * one, "radii": np.full((1, 48), radius, np.float32)}
    return Nuclei(**zero)


@pytest.mark.parametrize("cut", [(0, 0), (7, 3), (16, 21)])
def test_rings_and_look_do_not_depend_on_the_block(cut: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    h, d = rng.random((2, 90, 90), dtype=np.float32)
    for x16 in range(16):
        y, x = 45 + 5 / 16, 44 + x16 / 16
        whole = surroundings(nucleus(y, x, 6.3), h, d, 0.5)
        part = surroundings(
            nucleus(y - cut[0], x - cut[1], 6.3), h[cut[0] :, cut[1] :], d[cut[0] :, cut[1] :], 0.5
        )
        assert all(np.array_equal(whole[n], part[n]) for n in SURROUNDINGS)


# -- the net that looks at the pixels --------------------------------------------------------------


def many(count: int, side: float) -> Nuclei:
    rng = np.random.default_rng(9)
    zero = dict.fromkeys(Nuclei.__dataclass_fields__, np.zeros(count, np.float32))
    y, x = (np.rint(rng.uniform(0, side, (2, count)) * 16) / 16).astype(np.float32)
    radii = rng.uniform(3, 12, (count, 48)).astype(np.float32)
    return Nuclei(**(zero | {"y": y, "x": x, "radii": radii}))


def plain_net(seen: np.ndarray) -> np.ndarray:
    """The net on one patch, written down plainly."""
    w1, b1, w2, b2, w3, b3, w4, b4 = (w.astype(np.float64) for w in net())
    windows = np.lib.stride_tricks.sliding_window_view
    first = np.einsum("cijkl,ockl->oij", windows(seen, (4, 4), (1, 2))[:, ::2, ::2], w1)
    size = first.shape[1] // 2
    first = (first + b1[:, None, None]).reshape(len(b1), size, 2, size, 2).max(axis=(2, 4))
    second = np.einsum("cijkl,ockl->oij", windows(np.maximum(first, 0), (3, 3), (1, 2)), w2)
    deep = np.maximum(second + b2[:, None, None], 0).ravel()
    return w4 @ np.maximum(w3 @ deep + b3, 0) + b4


def test_the_net_against_a_plain_one() -> None:
    h, d = np.random.default_rng(0).random((2, 200, 200), dtype=np.float32)
    found = many(LANES + 7, 200.0)
    got = look(found, h, d, 0.5)
    for i, seen in enumerate(patches(found, h, d, 0.5).astype(np.float64)):
        other, tumour, false = plain_net(seen)
        assert got["look_tumour"][i] == pytest.approx(tumour - max(other, false), abs=1e-3)
        assert got["look_false"][i] == pytest.approx(false - max(other, tumour), abs=1e-3)


def test_a_look_rests_on_the_nucleus_alone() -> None:
    h, d = np.random.default_rng(1).random((2, 200, 200), dtype=np.float32)
    found = many(2 * LANES + 3, 200.0)
    whole = look(found, h, d, 0.5)
    some = np.random.default_rng(2).permutation(len(found))[: LANES + 5]
    part = look(found.take(some), h, d, 0.5)
    assert all(np.array_equal(part[n], whole[n][some]) for n in LOOK_COLUMNS)
    assert all(v.shape == (0,) for v in look(found.take(some[:0]), h, d, 0.5).values())


def test_a_look_reaches_eleven_micrometres() -> None:
    h, d = np.random.default_rng(3).random((2, 120, 120), dtype=np.float32)
    one = nucleus(60.0, 60.0, 7.0)
    before = look(one, h, d, 0.5)
    y, x = np.mgrid[0:120, 0:120]
    far = np.maximum(abs(x - 60), abs(y - 60)) > 11.5 / 0.5
    h[far], d[far] = 9.0, 9.0
    assert all(np.array_equal(v, before[n]) for n, v in look(one, h, d, 0.5).items())
    h[60, 70] += 2.0
    assert any(not np.array_equal(v, before[n]) for n, v in look(one, h, d, 0.5).items())


@pytest.mark.parametrize("mpp", [0.3, 0.46, 0.5])
def test_beyond_the_slide_lies_what_is_at_its_edge(mpp: float) -> None:
    h, d = np.random.default_rng(4).random((2, 70, 70), dtype=np.float32)
    one = nucleus(3.25, 66.5, 5.0)
    wide = [np.pad(p, 90, mode="edge") for p in (h, d)]
    assert np.array_equal(
        patches(one, h, d, mpp), patches(nucleus(93.25, 156.5, 5.0), *wide, mpp)
    )


@pytest.mark.parametrize("mpp", [0.25, 0.4, 0.5])
def test_what_the_net_sees(mpp: float) -> None:
    n = round(60 / mpp)
    y, x = (np.mgrid[0:n, 0:n] - n / 2) * mpp
    h = np.where(np.hypot(y, x) < 4.0, 0.4, 0.1).astype(np.float32)
    d = np.where(x > 6.0, 0.5, 0.0).astype(np.float32)
    seen = patches(nucleus(n / 2, n / 2, 4.0 / mpp), h, d, mpp)[0]
    assert seen.shape == (3, SIDE, SIDE)
    row = (np.arange(SIDE) - (SIDE - 1) / 2) * STEP_UM
    away = np.hypot(row[:, None], row[None, :])
    assert seen[0][away < 3] == pytest.approx(1.0, abs=0.12)
    assert seen[0][away > 5] == pytest.approx(0.25, abs=0.05)
    assert (seen[1][:, row > 7] > 1.6).all()
    assert seen[1][:, row < 5] == pytest.approx(0.0, abs=1e-6)
    assert seen[2] == pytest.approx(np.clip((4.0 - away) / SOFT_UM, -1, 1), abs=1e-4)
    pale = patches(nucleus(n / 2, n / 2, 4.0 / mpp), 0.5 * h, d, mpp)[0]
    assert pale == pytest.approx(seen, abs=1e-5)


# -- phantoms and real cores ---------------------------------------------------------------------


def cells_of(rgb: np.ndarray, mpp: float) -> tuple[dict[str, np.ndarray], TumourSettings]:
    settings = Settings()
    f = analysis_factor(mpp)
    side = 512
    tiles = [rgb[y : y + side, x : x + side] for y in range(0, rgb.shape[0], side)
             for x in range(0, rgb.shape[1], side)]  # fmt: skip
    h, d = reduce_unmix(rgb, f, estimate(tiles, mpp, settings.stain))
    parts = [(h[y : y + 256, x : x + 256], d[y : y + 256, x : x + 256])
             for y in range(0, h.shape[0] - 128, 512) for x in range(0, h.shape[1] - 128, 512)]
    contrast = typical_contrast(parts, mpp * f)
    by = settings.nuclei.model_copy(update={"contrast_od": contrast})
    found = find_nuclei(h, d, mpp * f, by, doubtful=True)
    found = second_opinion(found, h, d, mpp * f, by)
    columns = {
        "cell_id": np.arange(len(found)),
        "x_um": (found.x.astype(np.float64) + 0.5) * mpp * f,
        "y_um": (found.y.astype(np.float64) + 0.5) * mpp * f,
        "nucleus_area_um2": found.area_px * np.float32((mpp * f) ** 2),
        "nucleus_hematoxylin_od": found.hematoxylin,
        "nucleus_dab_od": found.dab,
    }
    columns |= {f"nucleus_{n}": getattr(found, n) for n in MEASURES[1:]}
    usual = usual_nuclei(sampled_nuclei(p, mpp * f, by) for p in parts)
    return columns | surroundings(found, h, d, mpp * f), TumourSettings(usual_nuclei=usual)


def test_phantom_cells_found_are_told_apart() -> None:
    hit = miss = wrong = others = 0
    for seed in (101, 103, 106, 108, 112, 115):
        spec = PhantomSpec.random(seed, width_um=330.0, height_um=330.0)
        phantom = make_phantom(spec)
        cells, settings = cells_of(phantom.rgb, spec.mpp)
        tumour = classify(cells, np.ones(len(cells["x_um"]), bool), settings) >= 0.5
        truth = phantom.truth.filter(phantom.truth["has_nucleus"])
        at = np.stack([truth["x_um"].to_numpy(), truth["y_um"].to_numpy()], axis=1)
        kind = np.array(truth["cell_type"].to_pylist()) == "tumour"
        far, which = cKDTree(at).query(np.stack([cells["x_um"], cells["y_um"]], axis=1))
        near = far < 3.0
        is_tumour = kind[which[near]]
        hit += int((tumour[near] & is_tumour).sum())
        miss += int((~tumour[near] & is_tumour).sum())
        wrong += int((tumour[near] & ~is_tumour).sum())
        others += int((~is_tumour).sum())
    f1 = 2 * hit / (2 * hit + miss + wrong)
    assert f1 > PHANTOM_F1
    assert hit / (hit + miss) > PHANTOM_RECALL


#: of cells that were found, on phantoms that took no part in the fit
PHANTOM_F1, PHANTOM_RECALL = 0.96, 0.96


@needs_real
def test_real_marked_cells_rank_tumour_above_the_others() -> None:
    # the marks took part in the fit; docs/methods-tumour.md tells what a fit without a core gives
    marks: dict[str, list[dict[str, str]]] = {}
    with MARKS.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["kind"] in ("tumour", "lymphocyte", "stroma"):
                marks.setdefault(row["image"], []).append(row)
    probability, truth = [], []
    for name, rows in marks.items():
        path = next(Path(str(REAL)).glob(f"her2_tma_cores/{name}*.jpg"))
        rgb = np.asarray(Image.open(path).convert("RGB"))
        cells, settings = cells_of(rgb, 0.25)
        p = classify(cells, np.ones(len(cells["x_um"]), bool), settings)
        at = np.array([[float(r["x_px"]), float(r["y_px"])] for r in rows]) * 0.25
        far, which = cKDTree(np.stack([cells["x_um"], cells["y_um"]], axis=1)).query(at)
        keep = far < 3.5
        probability.append(p[which[keep]])
        truth.append(np.array([r["kind"] == "tumour" for r in rows])[keep])
    p, t = np.concatenate(probability), np.concatenate(truth)
    order = p[t][:, None] - p[~t][None, :]
    area_under_curve = float(((order > 0) + 0.5 * (order == 0)).mean())
    assert area_under_curve > 0.95
    assert (p[t] >= 0.5).mean() > 0.92
    assert (p[~t] >= 0.5).mean() < 0.17


# -- the slide's usual nuclei, ranks ---------------------------------------------------------------


def test_usual_nuclei_are_those_of_the_sample() -> None:
    rng = np.random.default_rng(4)
    area, od = rng.uniform(20, 60, 200).astype(np.float32), rng.uniform(0.1, 0.5, 200)
    trust = np.where(np.arange(200) < 150, 0.9, 0.1)
    middle, large, grey = usual_of(area, od, trust)
    assert middle == pytest.approx(np.median(area[:150]))
    assert large == pytest.approx(np.percentile(area[:150], 95))
    assert grey == pytest.approx(np.median(od[:150]))
    assert usual_of(area[:30], od[:30], trust[:30]) is None


def test_usual_nuclei_of_a_drawing_and_none_of_empty_glass() -> None:
    phantom = make_phantom(PhantomSpec(width_um=220.0, height_um=220.0, margin_um=0, seed=3))
    h, d = reduce_unmix(phantom.rgb, 2, estimate([phantom.rgb], 0.25, Settings().stain))
    middle, large, grey = usual_nuclei([sampled_nuclei((h, d), 0.5, Settings().nuclei)])
    assert 15 < middle < large < 150
    assert 0.1 < grey < 0.6
    empty = sampled_nuclei((h * 0, d * 0), 0.5, Settings().nuclei)
    assert usual_nuclei([empty]) is None
    assert usual_nuclei([]) is None


def test_a_slide_of_small_nuclei_is_held_against_itself() -> None:
    cells = random_cells(400, 250.0)
    small = first_features(cells, (20.0, 40.0, 0.3)).values
    large = first_features(cells, (60.0, 120.0, 0.3)).values
    names = np.array(FIRST)
    differ = names[(small != large).any(axis=0)].tolist()
    assert differ == ["slide_area_mid", "slide_area_high"]
    gap = (small - large)[:, names == "slide_area_mid"]
    assert gap == pytest.approx(np.log(3.0))


def test_ranks_against_a_plain_count() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.uniform(0, 150, (2, 120))
    values = rng.integers(0, 9, (120, 2)).astype(float)
    got = neighbour_ranks(bucket(x, y, np.arange(120), 60.0), values, 50.0)
    for i in range(120):
        away = (x - x[i]) ** 2 + (y - y[i]) ** 2
        w = np.maximum(1 - away / 2500, 0) * (np.arange(120) != i)
        for k in range(2):
            below = (w * (values[:, k] < values[i, k])).sum()
            below += 0.5 * (w * (values[:, k] == values[i, k])).sum()
            assert got[i, k] == pytest.approx((below + 0.5) / (w.sum() + 1))
    alone = neighbour_ranks(bucket(x[:1], y[:1], np.arange(1), 60.0), values[:1], 50.0)
    assert alone == pytest.approx(0.5)


def test_doubtful_nuclei_stay_where_the_pixels_look_like_tumour(monkeypatch):
    settings = NucleiSettings()
    n = 6
    zero = np.zeros(n, np.float32)
    table = dict.fromkeys(Nuclei.__dataclass_fields__, zero)
    table |= {
        "radii": np.full((n, RAYS), 8, np.float32),
        "x": np.arange(n, dtype=np.float32),
        "confidence": np.array([0.9, 0.1, 0.2, 0.21, 0.06, 0.1], np.float32),
    }
    ahead = {1: 0.5, 2: -0.1, 4: 3.0, 5: 0.0}
    asked = []

    def look(found, h, d, mpp, weights):
        asked.extend(found.x.tolist())
        return {"look_tumour": np.array([ahead[int(x)] for x in found.x], np.float32)}

    monkeypatch.setattr(opinion, "look", look)
    plane = np.zeros((40, 40), np.float32)
    kept = second_opinion(Nuclei(**table), plane, plane, 0.5, settings)
    assert asked == [1, 2, 4, 5]
    assert kept.x.tolist() == [0, 1, 3, 4]


def test_a_second_opinion_tells_faint_nuclei_from_crumbs() -> None:
    true, false = [], []
    for seed in (101, 103, 106, 108):
        phantom = make_phantom(PhantomSpec.random(seed, width_um=330.0, height_um=330.0))
        f = analysis_factor(phantom.spec.mpp)
        um = phantom.spec.mpp * f
        rgb = phantom.rgb[: phantom.rgb.shape[0] // f * f, : phantom.rgb.shape[1] // f * f]
        h, d = reduce_unmix(rgb, f, estimate([rgb], phantom.spec.mpp, Settings().stain))
        by = NucleiSettings(contrast_od=typical_contrast([(h, d)], um))
        found = find_nuclei(h, d, um, by, doubtful=True)
        kept = second_opinion(found, h, d, um, by)
        sure = are_sure(found, by)
        at = np.column_stack([found.x, found.y])
        stays = cKDTree(np.column_stack([kept.x, kept.y])).query(at)[0] == 0
        assert stays[sure].all()
        truth = phantom.truth.to_pydict()
        nuclei = [i for i, seen in enumerate(truth["has_nucleus"]) if seen]
        real = np.array([[truth["x_um"][i], truth["y_um"][i]] for i in nuclei])
        far, which = cKDTree(real).query((at + 0.5) * um)
        known = set(which[sure & (far < 4)].tolist())
        tumour = np.array([truth["cell_type"][i] == "tumour" for i in nuclei])
        alone = np.array([w not in known for w in which]) & ~sure
        true += stays[alone & (far < 3) & tumour[which]].tolist()
        false += stays[~sure & (far > 5)].tolist()
    assert len(true) > 15
    assert np.mean(true) > 0.6
    assert len(false) > 15
    assert np.mean(false) < 0.4
