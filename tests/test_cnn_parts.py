"""The CNN's parts that need no network: numbers in, numbers out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from her2path import cnn
from her2path.cells.stain import StainModel, mix
from her2path.cnn import metrics
from her2path.cnn.augment import batch_planes, spoil, turn
from her2path.cnn.labels import TumourCells, label_patches, whole_label
from her2path.cnn.ordinal import probabilities
from her2path.cnn.patches import OD_SCALE, Patches, cut, planes
from her2path.cnn.split import split
from her2path.core.errors import InputError, ManifestError
from her2path.core.geometry import Box
from her2path.core.results import Score
from her2path.core.schema import PATTERNS, SCORES
from her2path.scoring import guidelines

STAIN = StainModel((243.0, 243.0, 242.0), (0.65, 0.70, 0.29), (0.27, 0.57, 0.78))


def patches(case: list[str], scanner: list[str], label: list[int] | None = None) -> Patches:
    """Return patches of nothing but names."""
    n = len(case)
    labels = np.array(label if label is not None else np.arange(n) % 4, np.int64)
    return Patches(
        np.full((n, 16, 16, 3), 200, np.uint8),
        labels,
        np.array(case),
        np.array(scanner),
        np.zeros(n, np.int64),
        (STAIN,),
        cnn.Window(16, 0.5),
        {},
        "test",
    )


# -- probabilities ---------------------------------------------------------------------------------


@given(st.lists(st.tuples(*[st.floats(-30, 30)] * 3), min_size=1, max_size=20), st.floats(0.3, 5))
def test_probabilities_are_probabilities(rows: list[tuple[float, ...]], temperature: float) -> None:
    p = probabilities(np.array(rows), temperature)
    assert p.shape == (len(rows), 4)
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-12)


def test_probabilities_by_hand() -> None:
    half = np.array([[0.0, 0.0, 0.0]])
    np.testing.assert_allclose(probabilities(half), [[0.5, 0.25, 0.125, 0.125]])


def test_temperature_is_found_again() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (20_000, 3))
    p = probabilities(logits)
    labels = (rng.random(len(p))[:, None] > np.cumsum(p, axis=1)).sum(axis=1)
    assert metrics.fit_temperature(logits * 2.5, labels) == pytest.approx(2.5, rel=0.05)
    sure = probabilities(logits * 2.5)
    calm = probabilities(logits * 2.5, 2.5)
    assert metrics.expected_calibration_error(sure, labels) > 0.08
    assert metrics.expected_calibration_error(calm, labels) < 0.02


def test_kappa_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    a = rng.integers(0, 4, 500)
    b = np.clip(a + rng.integers(-1, 2, 500), 0, 3)
    ours = metrics.quadratic_kappa(metrics.confusion(a, b))
    assert ours == pytest.approx(cohen_kappa_score(a, b, weights="quadratic"))


def test_kappa_without_variation_is_not_a_number_but_none() -> None:
    assert metrics.quadratic_kappa(metrics.confusion(np.zeros(5, int), np.zeros(5, int))) is None
    assert metrics.summary(np.zeros((0, 4)), np.zeros(0, np.int64)) == {"patches": 0}


# -- the parting -----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.integers(3, 12), st.integers(1, 6), st.integers(0, 2**31))
def test_no_case_is_on_two_sides(seed: int, cases: int, scanners: int, draw: int) -> None:
    rng = np.random.default_rng(draw)
    n = 40
    who = rng.integers(0, cases, n)
    who[:cases] = np.arange(cases)
    machine = who % scanners if draw % 2 else rng.integers(0, scanners, n)
    p = patches([f"c{i}" for i in who], [f"s{i}" for i in machine], list(rng.integers(0, 4, n)))
    parts = split(p, seed)
    sides = [set(p.case[r]) for r in (parts.train, parts.validation, parts.test)]
    assert all(sides)
    assert sides[0].isdisjoint(sides[1] | sides[2])
    assert sides[1].isdisjoint(sides[2])
    together = np.sort(np.concatenate([parts.train, parts.validation, parts.test]))
    np.testing.assert_array_equal(together, np.arange(n))
    if parts.unseen_scanners:
        learnt = set(p.scanner[np.concatenate([parts.train, parts.validation])])
        assert not learnt & set(p.scanner[parts.test])


def test_whole_scanners_are_held_out() -> None:
    who = [f"c{i % 20}" for i in range(200)]
    parts = split(patches(who, [f"s{i % 5}" for i in range(200)]), 0)
    assert parts.unseen_scanners
    assert 20 <= len(parts.test) <= 60


def test_two_cases_cannot_be_parted() -> None:
    with pytest.raises(ManifestError, match="3 are the least"):
        split(patches(["a", "b"] * 20, ["s"] * 40), 0)


# -- patches ---------------------------------------------------------------------------------------


def test_a_patch_depends_on_its_centre_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3000, 5000, 3)).astype(np.uint8)
    boxes = []

    def read(box: Box) -> np.ndarray:
        boxes.append(box)
        out = np.full((box.height, box.width, 3), 240, np.uint8)
        inside = box.clip(Box(0, 0, 5000, 3000))
        to = inside.shift(-box.x0, -box.y0)
        out[to.y0 : to.y1, to.x0 : to.x1] = image[inside.y0 : inside.y1, inside.x0 : inside.x1]
        return out

    rng = np.random.default_rng(1)
    centres = np.stack([rng.uniform(0, 5000, 40), rng.uniform(0, 3000, 40)], axis=1)
    window = cnn.Window(64, 0.5)
    out = np.zeros((40, 64, 64, 3), np.uint8)
    for rows, rgb in cut(read, centres, 0.25, window):
        out[rows] = rgb
    assert len(boxes) < 40
    for i in (0, 7, 39):
        [(rows, rgb)] = list(cut(read, centres[i : i + 1], 0.25, window))
        np.testing.assert_array_equal(rgb[0], out[i])
    x, y = np.floor(centres[5]).astype(int) - 64
    full = read(Box(x, y, x + 128, y + 128)).astype(int)
    mean = full.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(mean - out[5]).max() <= 0.5


@pytest.mark.parametrize("mpp", [0.57, 1.0])
def test_a_coarse_slide_is_refused(mpp: float) -> None:
    with pytest.raises(InputError, match="made for 0\\.5"):
        cnn.Window(128, 0.5).source_px(mpp)


def test_planes_are_optical_density() -> None:
    h, d = np.full((8, 8), 0.3), np.full((8, 8), 0.5)
    rgb = mix(h, d, STAIN)[None]
    hd = planes(rgb, STAIN, "h_dab") / OD_SCALE
    np.testing.assert_allclose(hd[0, 0], 0.3, atol=0.02)
    np.testing.assert_allclose(hd[0, 1], 0.5, atol=0.02)
    od = planes(rgb, STAIN, "od") / OD_SCALE
    want = 0.3 * np.array(STAIN.hematoxylin) + 0.5 * np.array(STAIN.dab)
    np.testing.assert_allclose(od[0, :, 4, 4], want, atol=0.02)


@pytest.mark.parametrize("channels", ["h_dab", "od"])
def test_augmentation_varies_the_stain_and_keeps_the_patch(channels: str) -> None:
    p = patches(["a"] * 64, ["s"] * 64)
    rng = np.random.default_rng(0)
    flat = mix(np.full((16, 16), 0.3), np.full((16, 16), 0.6), STAIN)
    p.rgb[:] = flat
    plain = batch_planes(p, np.arange(64), channels)
    varied = batch_planes(p, np.arange(64), channels, rng)
    assert varied.shape == plain.shape
    shift = (varied - plain).mean(axis=(2, 3))
    assert 0.01 < shift.std() < 0.5
    assert np.abs(shift.mean()) < 0.1
    again = batch_planes(p, np.arange(64), channels, np.random.default_rng(0))
    np.testing.assert_array_equal(varied, again)


def test_turns_move_pixels_and_spoilers_stay_near() -> None:
    rng = np.random.default_rng(0)
    one = np.random.default_rng(1).integers(100, 200, (32, 32, 3)).astype(np.uint8)
    seen = {turn(one, rng).tobytes() for _ in range(100)}
    assert len(seen) == 8
    flat = np.full((32, 32, 3), 150, np.uint8)
    for _ in range(30):
        assert abs(float(spoil(flat, rng).mean()) - 150) < 3


# -- labels, regions, verdict ----------------------------------------------------------------------


def test_labels_are_the_guidelines() -> None:
    rng = np.random.default_rng(2)
    xy = rng.uniform(0, 200, (400, 2))
    cells = TumourCells(xy[:, 0], xy[:, 1], rng.integers(0, 7, 400))
    centres = np.array([[100.0, 100.0], [30.0, 150.0], [-500.0, 0.0]])
    got = label_patches(cells, centres, 64.0, "asco_cap_2018")
    for centre, label in zip(centres[:2], got[:2], strict=True):
        inside = (np.abs(xy - centre) <= 32).all(axis=1)
        counts = {p: int((cells.pattern[inside] == k).sum()) for k, p in enumerate(PATTERNS)}
        assert SCORES[label] == guidelines.score(counts, "asco_cap_2018").ihc
    assert got[2] == -1
    biopsy = label_patches(cells, centres[:1], 64.0, "gastric_biopsy")
    assert biopsy[0] == 3
    assert whole_label(cells, "asco_cap_2018") == 3


def test_the_sample_depends_on_identities_not_on_order() -> None:
    rng = np.random.default_rng(0)
    ids = rng.permutation(10_000)[:500].astype(np.int64)
    region = rng.integers(-1, 6, 500)
    picked = set(ids[cnn.sample_by_region(ids, region, 16)])
    order = rng.permutation(500)
    again = set(ids[order][cnn.sample_by_region(ids[order], region[order], 16)])
    assert picked == again
    assert len(picked) == 6 * 16
    assert not picked & set(ids[region == -1])


def test_regions_and_slide_are_weighted_means() -> None:
    rng = np.random.default_rng(5)
    p = rng.dirichlet(np.ones(4), 60)
    region = rng.choice([3, 8, 1, 77], 60)
    ids = np.array([8, 1, 5, 3])
    got = cnn.region_probabilities(p, region, ids)
    for row, name in zip(got, ids, strict=True):
        if name == 5:
            assert np.isnan(row).all()
        else:
            np.testing.assert_allclose(row, p[region == name].mean(axis=0))
    slide = cnn.slide_probabilities(got, np.array([10, 30, 99, 0]))
    np.testing.assert_allclose(slide, (10 * got[0] + 30 * got[1]) / 40)
    assert cnn.slide_probabilities(np.full((2, 4), np.nan), np.array([5, 5])) is None


def test_decide_takes_the_highest_score_reached() -> None:
    p = np.array([[0.6, 0.1, 0.1, 0.2], [0.1, 0.2, 0.3, 0.4], [np.nan] * 4])
    assert cnn.decide(p, 0.5).tolist() == [0, 2, -1]
    assert cnn.decide(p, 0.2).tolist() == [3, 3, -1]


@pytest.mark.parametrize(
    ("ihc", "agrees", "flag"), [("3+", True, None), ("2+", False, cnn.DISAGREES)]
)
def test_the_verdict_stands_beside_the_rules(ihc: str, agrees: bool, flag: str | None) -> None:
    rules = Score(
        guideline="asco_cap_2018", ihc=ihc, substate=None, rule="", trace=(), flags=(), category="x"
    )
    found = cnn.verdict(np.array([0.0, 0.1, 0.2, 0.7]), rules, "m 1")
    assert (found.score, found.agrees, found.flag) == ("3+", agrees, flag)
    assert found.probability == {"0": 0.0, "1+": 0.1, "2+": 0.2, "3+": 0.7}
    assert rules.ihc == ihc
    nothing = cnn.verdict(None, rules, "m 1")
    assert nothing.score is None
    assert nothing.agrees is None
