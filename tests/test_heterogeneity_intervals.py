"""Intervals of every figure, and verdicts that rest on ISH counts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from her2path.core.settings import Settings
from her2path.scoring import ish
from her2path.space.heterogeneity import diversity as dv
from her2path.space.heterogeneity import measure, with_ish
from her2path.space.heterogeneity.between import partition_intervals
from her2path.space.spatial.blocks import Blocks, make_blocks, widening
from tests.point_patterns import drawn

FAST = Settings().replace({
    "heterogeneity.permutations": 99, "heterogeneity.biopsy_draws": 40,
    "heterogeneity.interval_draws": 60,
})  # fmt: skip


@pytest.fixture(scope="module")
def measured():
    x, y, positive = drawn("clustered", 3, side=(2400, 2400))
    pattern = np.where(positive, "intense_complete", "faint_incomplete")
    return measure({"x_um": x, "y_um": y, "pattern": pattern}, settings=FAST)


def test_every_figure_has_an_interval_or_a_p_value(measured):
    plain = measured.model_dump(mode="json")
    known = plain["intervals"]
    for name in ("positive_cell_fraction", "positive_area_fraction", "area_fraction_5_50",
                 "null_cell_fraction", "low_cell_fraction", "shannon", "simpson", "rao_q", "gini",
                 "hill_1", "hill_2", "moran_i", "cluster_area_fraction", "separate_population",
                 "moderate_complete_or_above", "h_score"):  # fmt: skip
        assert known[name] is not None, name
    shares = plain["low_vs_null"]["area_fraction"]
    for word, (low, high) in known["area_category"].items():
        assert low <= shares[word] <= high
    v = plain["variogram"]
    for low, value, high in zip(v["semivariance_low"], v["semivariance"], v["semivariance_high"],
                                strict=True):  # fmt: skip
        assert low <= value <= high
    assert v["nugget_share_interval"][0] <= v["nugget_share"] <= v["nugget_share_interval"][1]
    pairs = plain["pairs"]
    for low, value, high in zip(pairs["pair_correlation_low"], pairs["pair_correlation_ratio"],
                                pairs["pair_correlation_high"], strict=True):  # fmt: skip
        assert low <= value <= high
    between = plain["between_areas"]
    low, high = between["between_share_interval"]
    assert low <= between["rao"]["between_share"] <= high
    assert between["icc_interval"][0] <= between["icc"] <= between["icc_interval"][1]
    low, high = plain["bystander"]["proximity_interval"]
    assert low <= plain["bystander"]["proximity_score"] <= high


def test_drawn_parts_are_those_of_the_plain_formulae():
    """The bootstrap's sums give Rao's partition and the ICC of repeated areas exactly."""
    rng = np.random.default_rng(5)
    counts = rng.integers(0, 40, (8, 4))
    times = rng.multinomial(8, np.full(8, 1 / 8), size=1)
    often = np.repeat(counts, times[0], axis=0)
    # every draw is the same, so that the interval's middle is that draw's value
    one = Blocks(np.arange(8), 8, np.repeat(times, 40, axis=0))
    found = partition_intervals(counts, one)
    for name, plain in (("between_share", dv.partition), ("icc", dv.intraclass)):
        value = plain(often)
        value = value["between_share"] if isinstance(value, dict) else value
        whole = plain(counts)
        whole = whole["between_share"] if isinstance(whole, dict) else whole
        expected = whole + (value - whole) * widening(8)
        assert any(v == pytest.approx(expected) for v in found[f"{name}_interval"])


def test_ashmans_interval_holds_the_modes_and_narrows_with_blocks():
    truth, held, width = math.sqrt(2) * 0.6 / math.hypot(0.05, 0.10), 0, {}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        for n in (400, 4000):
            v = np.concatenate([rng.normal(0.2, 0.05, n), rng.normal(0.8, 0.10, n)])
            blocks = make_blocks(np.arange(v.size) % (v.size // 20), 100)
            low, high = dv.bimodality(v, blocks)["ashman_d_interval"]
            held += low < truth < high
            width[n] = high - low
    assert held >= 20  # of 24
    assert width[4000] < 0.5 * width[400]
    assert dv.bimodality(v)["ashman_d_interval"] is None


def test_cluster_and_mosaic_on_ish_look_at_copies():
    """Cells of 4 to 6 copies are left out, and ratio plays no part (Lab Invest 2018)."""
    rng = np.random.default_rng(8)
    x, y = rng.uniform(0, 600, (2, 900))
    clone = np.hypot(x - 200, y - 200) < 150
    her2 = np.where(clone, 8, rng.integers(1, 4, 900))
    table = {"x_um": x, "y_um": y, "her2": her2, "cep17": np.full(900, 6)}  # polysomy: ratio < 2
    h = measure(table, settings=FAST)
    assert h.positive_cell_fraction == 0.0
    assert h.definitions["cluster"]["value"] is True
    assert h.definitions["cluster"]["fraction"] == pytest.approx(clone.mean(), abs=0.05)
    between = measure(table | {"her2": np.where(clone, 5, her2)}, settings=FAST)
    assert between.definitions["cluster"]["value"] is False


def test_ish_counts_decide_the_verdicts_and_can_be_taken_off():
    ihc = measure(
        {
            "area_id": ["a"] * 100 + ["b"] * 100,
            "pattern": ["moderate_complete"] * 150 + ["none"] * 50,
        },
        settings=FAST,
    )
    assert ihc.areas.heterogeneous_case is None
    cells = {
        "case_id": ["c"] * 90,
        "area_id": np.repeat(["1", "2", "3"], 30),
        "cell_id": np.arange(90),
        "her2": [12] * 60 + [12] * 9 + [2] * 21,
        "cep17": [2] * 90,
    }
    row = ish.interpret(cells, ihc="2+")["cases"][0]
    told = with_ish(ihc, row)
    assert told.areas.heterogeneous_case is True
    assert told.areas.basis == "ish"
    assert told.definitions["filho_2021"]["by_cells"]["value"] is None
    assert told.ish["areas_heterogeneous"] == 1
    assert with_ish(told, row) == told
    back = with_ish(told, None)
    assert back.areas == ihc.areas
    assert back.definitions == ihc.definitions
    assert with_ish(None, row) is None
