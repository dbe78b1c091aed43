"""Cut-offs from controls, receptors off a curve, cut-offs from reads: on cells that are made up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from her2path.cells.patterns import classify
from her2path.core.errors import UsageError
from her2path.core.schema import PATTERNS, SCORES
from her2path.core.settings import Curve, Settings
from her2path.scoring import guidelines
from her2path.scoring.calibration.calibrators import PUBLISHED, cutoffs_from_curve
from her2path.scoring.calibration.control import LEAST_CELLS, Control
from her2path.scoring.calibration.critical import NEVER, critical_values, margins
from her2path.scoring.calibration.curve import fit_curve, read_off, relative_error_at
from her2path.scoring.calibration.levels import cutoffs_from_levels, relative_error
from her2path.scoring.calibration.ordinal import Reads, fit, intervals, predicted


def control(
    od: float, level: int | None = None, receptors: float | None = None, *, seen: float = 1.0,
    spread: float = 0.2, n: int = 400, seed: int = 0,
) -> Control:  # fmt: skip
    rng = np.random.default_rng([seed, int(od * 1e5), level or 0])
    values = od * np.exp(rng.normal(0, spread, n)) * (rng.random(n) < seen)
    columns: dict[str, np.ndarray] = dict.fromkeys(
        ("membrane_od", "membrane_od_ring", "membrane_mass"), values
    )
    columns |= {"completeness": (values > 0) * 0.9}
    columns |= {c: rng.uniform(0, 600, n) for c in ("x_um", "y_um")}
    return Control.of(f"c{level}", columns, level, receptors)


LEVELS = [control(0.01, 0, seen=0.03), control(0.05, 1, seen=0.8), control(0.15, 2),
          control(0.45, 3)]  # fmt: skip


def test_a_cut_off_lies_where_two_levels_are_as_likely() -> None:
    found = cutoffs_from_levels(LEVELS, "membrane_od")
    # two log-normal classes of the same spread: half-way between their medians
    assert found.values[1] == pytest.approx(np.sqrt(0.05 * 0.15), rel=0.05)
    assert found.values[2] == pytest.approx(np.sqrt(0.15 * 0.45), rel=0.05)
    stained = LEVELS[1].stained("membrane_od")
    assert (stained >= found.values[0]).mean() == pytest.approx(0.95, abs=0.01)
    assert (found.intervals[:, 0] <= found.values).all()
    assert (found.intervals[:, 1] >= found.values).all()
    assert 0.03 < (found.blank_share or 0) < 0.08 or found.blank_share == pytest.approx(0, abs=0.02)


def test_cut_offs_follow_a_gain() -> None:
    """Twice the stain, twice the cut-offs."""
    twice = [
        Control(c.name, {k: v * (1 + (k != "completeness")) for k, v in c.values.items()},
                c.block, c.level) for c in LEVELS
    ]  # fmt: skip
    one, two = (cutoffs_from_levels(c, "membrane_od") for c in (LEVELS, twice))
    assert two.values == pytest.approx(2 * one.values, rel=1e-6)
    assert relative_error(two.values, two.intervals) == pytest.approx(
        relative_error(one.values, one.intervals), rel=1e-6)  # fmt: skip


def test_a_wide_gap_between_levels_is_a_wide_interval() -> None:
    near = cutoffs_from_levels(LEVELS, "membrane_od")
    apart = cutoffs_from_levels([*LEVELS[:3], control(1.5, 3)], "membrane_od")
    width = [np.log(f.intervals[2, 1] / f.intervals[2, 0]) for f in (near, apart)]
    assert width[1] > 2 * width[0]


@pytest.mark.parametrize(
    ("controls", "words"),
    [
        ([], "too few controls: none of 1\\+, 2\\+, 3\\+"),
        (LEVELS[:3], "too few controls: none of 3\\+"),
        ([LEVELS[1], control(0.5, 2), control(0.2, 3)], "do not rank: 3\\+ stains no darker"),
        ([LEVELS[1], control(0.15, 2, spread=0.8), control(0.18, 3, spread=0.8)], "overlap"),
        ([control(0.2, 0), *LEVELS[1:]], "levels 0 and 1\\+ overlap"),
        ([control(0.05, 1, seen=0.01), *LEVELS[2:]], "hardly a stained cell"),
    ],
)  # fmt: skip
def test_levels_that_carry_no_cut_off_are_refused(controls: list[Control], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        cutoffs_from_levels(controls, "membrane_od")


def test_a_control_needs_cells() -> None:
    with pytest.raises(UsageError, match=f"{LEAST_CELLS} are needed"):
        control(0.1, 1, n=LEAST_CELLS - 1)
    assert control(0.1, 1, n=LEAST_CELLS).cells == LEAST_CELLS


def test_an_unseen_control_of_1_plus_leaves_the_others_to_decide() -> None:
    found = cutoffs_from_levels([control(0.05, 1, seen=0.01), *LEVELS[2:]], "membrane_od",
                                usual=0.25)  # fmt: skip
    assert found.unseen
    assert found.values[0] == pytest.approx(0.25 * found.values[1])
    assert found.values[1] < 0.15 < found.values[2] < 0.45


# -- receptors -------------------------------------------------------------------------------------


def lines(law: float = 1e6, numbers: tuple[float, ...] = (3e4, 6e4, 1.5e5, 5e5)) -> list[Control]:
    return [control(n / law, None, n, seed=i) for i, n in enumerate(numbers)]


def test_receptors_are_read_off_inside_the_range_and_nowhere_else() -> None:
    curve, remarks = fit_curve(lines(), "membrane_od")
    assert not remarks
    assert curve.range == pytest.approx((3e4, 5e5))
    first, last = curve.od[0], curve.od[-1]
    od = np.array([0.0, 0.5 * first, first, 0.1, 0.3, last, 1.01 * last])
    read = read_off(curve, od)
    assert read.dtype == np.float32
    assert np.isnan(read[[0, 1, -1]]).all()
    assert read[2:6] == pytest.approx([3e4, 1e5, 3e5, 5e5], rel=0.06)
    assert 0 < relative_error_at(curve, 1e5) < 0.2
    assert max(abs(r) for r in curve.residuals if r is not None) < 0.1


def test_the_curve_is_monotone_whatever_its_shape() -> None:
    bent = [control(od, None, n, seed=i) for i, (od, n) in
            enumerate([(0.02, 1e4), (0.03, 1e5), (0.4, 1.2e5), (0.5, 9e5)])]  # fmt: skip
    curve, _ = fit_curve(bent, "membrane_od")
    read = read_off(curve, np.geomspace(curve.od[0], curve.od[-1], 500))
    assert (np.diff(read) > 0).all()


def test_a_calibrator_below_the_detection_limit_is_no_knot() -> None:
    curve, remarks = fit_curve([control(0.005, None, 5e3, seen=0.2), *lines()], "membrane_od")
    assert curve.range[0] == pytest.approx(3e4)
    assert "5000 receptors" in remarks[0]


@pytest.mark.parametrize(
    ("controls", "words"),
    [
        (lines(numbers=(3e4, 5e5)), "too few calibrators: 2"),
        ([control(0.4, None, 3e4), control(0.1, None, 1e5), control(0.2, None, 5e5)], "not rank"),
    ],
)
def test_calibrators_that_carry_no_curve_are_refused(controls: list[Control], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        fit_curve(controls, "membrane_od")


def test_calibrators_alone_give_cut_offs_between_published_lines() -> None:
    curve, _ = fit_curve(lines(numbers=(2e4, 6e4, 1.5e5, 6e5)), "membrane_od")
    found = cutoffs_from_curve(curve)
    middles = [np.sqrt(a * b) for a, b in PUBLISHED]
    assert read_off(curve, found.values) == pytest.approx(middles, rel=1e-3)
    with pytest.raises(UsageError, match="calibrators reach from"):
        cutoffs_from_curve(fit_curve(lines(numbers=(6e4, 1e5, 1.5e5)), "membrane_od")[0])


def test_an_earlier_calibration_keeps_its_receptors_at_the_cut_offs() -> None:
    """A slide stained half as dark: the cut-offs halve."""
    old, _ = fit_curve(lines(), "membrane_od")
    pale, _ = fit_curve(lines(law=2e6), "membrane_od")
    earlier = Settings().replace({
        "membrane.cutoffs": [0.04, 0.1, 0.3], "calibration.curve": old.model_dump(mode="json"),
    })  # fmt: skip
    assert cutoffs_from_curve(pale, earlier).values == pytest.approx([0.02, 0.05, 0.15], rel=0.05)


def test_a_curve_in_settings_must_rise() -> None:
    with pytest.raises(ValueError, match="rise"):
        Curve(od=(0.1, 0.1), receptors=(1.0, 2.0), relative_error=(0.1, 0.1))
    with pytest.raises(ValueError, match="knots"):
        Curve(od=(0.1,), receptors=(1.0,), relative_error=(0.1,))


# -- reads -----------------------------------------------------------------------------------------


def case(rng: np.random.Generator, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    v = np.exp(rng.normal(np.log(0.015) + rng.uniform(-0.8, 3.7), rng.uniform(0.3, 0.6), n))
    whole = np.clip(rng.beta(2, 1, n) + 0.15 * (v > 0.06), 0, 1)
    bare = rng.random(n) < rng.uniform(0, 0.9) * (rng.random() < 0.6)
    return np.where(bare, 0, v), np.where(bare, 0, whole)


@pytest.mark.parametrize("guideline", [g for g in guidelines.names() if g != "gastric_biopsy"])
def test_critical_cut_offs_say_what_the_guideline_scores(guideline: str) -> None:
    """The score at any cut-offs follows from nine numbers; older rules may fall short by a sum."""
    settings = Settings().replace({"score.guideline": guideline, "score.min_cells": 20})
    rng = np.random.default_rng(7)
    same = total = 0
    for _ in range(12):
        v, whole = case(rng)
        critical = critical_values(v, whole, settings)
        for _ in range(10):
            cuts = np.sort(np.exp(rng.uniform(np.log(0.004), np.log(0.8), 3)))
            if np.diff(cuts).min() < 1e-4:
                continue
            tried = settings.replace({"membrane.cutoffs": cuts.tolist()})
            pattern = classify(whole.astype(np.float32), v.astype(np.float32), tried.membrane)[0]
            said = guidelines.score({"pattern": np.array(PATTERNS)[pattern]}, guideline, tried).ihc
            told = SCORES[int(predicted(critical[None], np.log(cuts))[0])]
            same, total = same + (told == said), total + 1
    assert same / total >= (0.9 if guideline in ("asco_cap_2013", "asco_cap_2007") else 1.0)


def test_an_unstained_case_reaches_nothing() -> None:
    critical = critical_values(np.zeros(100), np.zeros(100), Settings())
    assert (critical == NEVER).all()
    assert (margins(critical[None], np.log([0.01, 0.05, 0.2])) < 0).all()


def laboratory(rng: np.random.Generator, cuts: np.ndarray, cases: int, noise: float) -> Reads:
    critical = np.array([critical_values(*case(rng), Settings()) for _ in range(cases)])
    counts = np.zeros((cases, 4))
    for i in range(cases):
        for _ in range(3):
            own = np.log(cuts) + rng.normal(0, noise)
            counts[i, int(predicted(critical[i][None], own)[0])] += 1
    return Reads(critical, counts)


def test_reads_recover_the_cut_offs_of_a_laboratory() -> None:
    rng = np.random.default_rng(3)
    cuts = np.array([0.02, 0.07, 0.21])
    reads = laboratory(rng, cuts, 80, 0.1)
    found = fit(reads, np.log([0.015, 0.058, 0.19]))
    assert np.exp(found.log_cutoffs) == pytest.approx(cuts, rel=0.25)
    limits = np.exp(intervals(reads, found, 60, rng))
    assert ((limits[:, 0] <= cuts) & (cuts <= limits[:, 1])).all()
    more = laboratory(rng, cuts, 160, 0.1)
    narrow = intervals(more, fit(more, found.log_cutoffs), 60, rng)
    assert np.diff(narrow).mean() < np.diff(np.log(limits)).mean()


def test_the_gradient_is_that_of_the_loss() -> None:
    from scipy.optimize import approx_fprime

    from her2path.scoring.calibration import ordinal

    reads = laboratory(np.random.default_rng(1), np.array([0.02, 0.07, 0.21]), 20, 0.2)
    theta: Any = np.array([np.log(0.017), 0.2, 0.1, np.log(0.2)])
    numeric = approx_fprime(theta, lambda t: ordinal._loss(t, reads)[0], 1e-6)
    assert ordinal._loss(theta, reads)[1] == pytest.approx(numeric, rel=1e-3, abs=1e-3)
