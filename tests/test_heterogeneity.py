"""The door `heterogeneity.measure`: every field, hand-worked figures, degenerate input."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pytest

import her2path as h2
from her2path.core.errors import ManifestError, SettingsError
from her2path.core.results import Heterogeneity
from her2path.core.settings import Settings
from her2path.space.heterogeneity import diversity as dv
from her2path.space.heterogeneity import measure
from her2path.space.heterogeneity.bands import block_side_um, cell_blocks, cell_intervals
from her2path.space.heterogeneity.bystander import RADII_UM, nearest_positive
from her2path.space.heterogeneity.table import read_points
from her2path.space.regions import make_regions
from her2path.space.spatial import fit_variogram, pair_counts
from tests.point_patterns import drawn, smooth_field

FAST = Settings().replace({
    "heterogeneity.permutations": 99, "heterogeneity.biopsy_draws": 40,
    "heterogeneity.interval_draws": 60,
})  # fmt: skip


def table(x, y, positive, rest="faint_incomplete"):
    return {"x_um": x, "y_um": y, "pattern": np.where(positive, "intense_complete", rest)}


@pytest.fixture(scope="module")
def clustered():
    return table(*drawn("clustered", 3))


@pytest.fixture(scope="module")
def measured(clustered):
    return measure(clustered, settings=FAST)


def finite(value):
    if isinstance(value, dict):
        return all(finite(v) for v in value.values())
    if isinstance(value, list):
        return all(finite(v) for v in value)
    return not isinstance(value, float) or math.isfinite(value)


def test_has_every_field_of_the_contract(measured):
    plain = json.loads(measured.model_dump_json())
    assert {"basis", "positive_definition", "areas", "positive_cell_fraction",
            "positive_area_fraction", "area_fraction_5_50", "low_vs_null", "pattern", "diversity",
            "bystander"} <= set(plain)  # fmt: skip
    assert {
        "n",
        "positive",
        "heterogeneous",
        "negative",
        "indeterminate",
        "uncertain",
        "rule",
        "heterogeneous_case",
        "reason",
        "false_alarm_probability",
    } <= set(plain["areas"])
    assert plain["bystander"]["radius_um"] == list(range(0, 201, 5))
    assert plain["pattern"]["type"] == "clustered"
    assert finite(plain)
    assert Heterogeneity.model_validate(plain).pattern.type == "clustered"


def test_result_does_not_depend_on_rows_threads_or_type_of_table(clustered, measured):
    import pandas as pd

    shuffle = np.random.default_rng(0).permutation(len(clustered["x_um"]))
    rows = {k: v[shuffle] for k, v in clustered.items()}
    one = measured.model_dump_json()
    assert measure(rows, settings=FAST).model_dump_json() == one
    assert measure(pd.DataFrame(rows), settings=FAST).model_dump_json() == one
    threads = FAST.replace({"stream.workers": 3})
    assert measure(pa.table(rows), settings=threads).model_dump_json() == one
    assert h2.heterogeneity.measure(rows, positive=["intense_complete"], settings=FAST) == measured


def test_pattern_survives_rotation_and_mirror(clustered, measured):
    x, y = clustered["x_um"], clustered["y_um"]
    turned = clustered | {"x_um": 5000 - y, "y_um": 100 + x}
    other = measure(turned, settings=FAST)
    assert other.pattern.type == measured.pattern.type
    assert other.pattern.moran_i == pytest.approx(measured.pattern.moran_i, abs=1e-9)
    np.testing.assert_allclose(other.bystander.coverage, measured.bystander.coverage, atol=1e-9)


def test_six_areas_by_hand():
    """Two positive, two heterogeneous, one negative area, and one with too few cells."""
    area, positive = [], []
    for name, n, k in [("a", 100, 90), ("b", 100, 50), ("c", 100, 49), ("d", 100, 6),
                       ("e", 100, 5), ("f", 49, 49)]:  # fmt: skip
        area += [name] * n
        positive += [True] * k + [False] * (n - k)
    h = measure({"area_id": area, "positive": positive}, settings=FAST)
    assert (h.areas.n, h.areas.positive, h.areas.heterogeneous, h.areas.negative,
            h.areas.indeterminate) == (6, 2, 2, 1, 1)  # fmt: skip
    assert h.areas.heterogeneous_case is True
    assert h.areas.uncertain == 4  # 50, 49, 6 and 5 of 100 straddle a limit
    assert h.positive_area_fraction == pytest.approx(2 / 5)
    assert h.area_fraction_5_50 == pytest.approx(2 / 5)
    assert h.positive_cell_fraction == pytest.approx(249 / 549)
    assert h.pattern.type == "not_evaluable"
    assert "no positions" in h.pattern.reason
    assert h.bystander.coverage is None


def test_verdict_on_ihc_is_for_3_plus_only():
    cells = {
        "area_id": ["a"] * 100 + ["b"] * 100,
        "pattern": ["moderate_complete"] * 150 + ["intense_complete"] * 8 + ["none"] * 42,
    }
    h = measure(cells, settings=FAST)
    assert h.areas.heterogeneous_case is None
    assert "3+ only" in h.areas.reason
    assert h.moderate_complete_or_above == pytest.approx(158 / 200)
    assert measure(cells, settings=FAST, score="3+").areas.heterogeneous_case is True


def test_ish_counts_are_a_basis_of_their_own():
    her2 = np.array([12.0] * 30 + [2.0] * 30 + [12.0] * 24 + [2.0] * 6 + [9.0])
    cep17 = np.array([2.0] * 90 + [0.0])
    counts = {"her2": her2, "cep17": cep17, "area_id": [1] * 30 + [2] * 30 + [3] * 31}
    h = measure(counts, settings=FAST)
    assert h.basis == "ish"
    assert (h.cells, h.not_evaluable_cells) == (90, 1)
    assert h.positive_cell_fraction == pytest.approx(54 / 90)
    assert h.areas.heterogeneous_case is True
    assert "negative ISH" in h.areas.reason
    assert h.definitions["cap_2009"]["value"] is False
    assert h.definitions["cap_2009"]["fraction"] == pytest.approx(54 / 90)


@pytest.mark.parametrize(("amplified", "strict", "inclusive"),
                         [(4, False, False), (5, False, True), (6, True, True), (49, True, True),
                          (50, False, False)])  # fmt: skip
def test_cap_2009_is_strict_unless_set(amplified, strict, inclusive):
    counts = {"her2": [10] * amplified + [2] * (100 - amplified), "cep17": [2] * 100}
    for flag, expected in ((False, strict), (True, inclusive)):
        h = measure(counts, settings=FAST.replace({"ish.cap_inclusive": flag}))
        assert h.definitions["cap_2009"]["value"] is expected


def test_score_column_stands_for_patterns():
    words = measure({"score": ["0", "1+", "2+", "3+"] * 20}, settings=FAST)
    numbers = measure({"score": [0, 1, 2, 3] * 20}, settings=FAST)
    assert words == numbers
    assert words.positive_cell_fraction == 0.25
    assert words.low_vs_null.cell_fraction == {"null": 0.25, "low": 0.5, "positive": 0.25}


def test_low_against_null_by_area():
    pattern = (["none"] * 100 + ["faint_incomplete"] * 5 + ["none"] * 95
               + ["faint_incomplete"] * 60 + ["none"] * 40 + ["moderate_complete"] * 50
               + ["none"] * 50 + ["intense_complete"] * 100)  # fmt: skip
    h = measure({"area_id": np.repeat(list("abcde"), 100), "pattern": pattern}, settings=FAST)
    assert h.low_vs_null.area_fraction == {
        "null": 0.2, "ultralow": 0.2, "low": 0.2, "equivocal": 0.2, "positive": 0.2
    }  # fmt: skip


def test_regions_table_is_used(clustered):
    regions, region = make_regions(clustered, "grid", FAST)
    h = measure(clustered | {"region_id": region}, settings=FAST, regions=regions)
    kinds = regions["area_class"].to_pylist()
    area = np.array(regions["tumour_area_mm2"].to_pylist())
    known = np.array([k != "indeterminate" for k in kinds])
    assert h.areas.n == regions.num_rows
    assert h.areas.positive == kinds.count("positive")
    expected = area[[k == "positive" for k in kinds]].sum() / area[known].sum()
    assert h.positive_area_fraction == pytest.approx(expected)
    with pytest.raises(ManifestError, match="region_id"):
        measure(clustered | {"region_id": region + 1}, settings=FAST, regions=regions)


def test_bystander_equals_brute_force(clustered, measured):
    x, y = clustered["x_um"], clustered["y_um"]
    positive = clustered["pattern"] == "intense_complete"
    d = np.array([np.hypot(x[positive] - a, y[positive] - b).min()
                  for a, b in zip(x, y, strict=True)])  # fmt: skip
    expected = [positive.mean(), *((d <= r).mean() for r in RADII_UM[1:])]
    np.testing.assert_allclose(measured.bystander.coverage, expected, atol=1e-12)
    assert measured.bystander.coverage[0] == measured.positive_cell_fraction
    assert measured.bystander.proximity_score == pytest.approx((d <= 30).mean())
    low, high = measured.bystander.coverage_low, measured.bystander.coverage_high
    assert all(a <= c <= b for a, c, b in zip(low, expected, high, strict=True))


def test_bystander_limits_are_inclusive():
    x, y = np.array([0.0, 3.0, 0.0]), np.array([0.0, 4.0, 0.0])
    d = nearest_positive(x, y, np.array([True, False, False]))
    assert d[0] == 0
    assert d[1] == pytest.approx(5.0)
    h = measure({"x_um": x, "y_um": y, "positive": [True, False, False]}, settings=FAST)
    # r = 0: the positive cell alone; r = 5: also the cell at the same place and the one 5 µm away
    assert h.bystander.coverage[:2] == pytest.approx((1 / 3, 1.0))


def test_diversity_by_hand():
    d = dv.diversity(np.array([50, 0, 25, 25]))
    assert d.shannon == pytest.approx(1.5 * math.log(2))
    assert d.simpson == pytest.approx(0.625)
    assert d.simpson_unbiased == pytest.approx(1 - (50 * 49 + 2 * 25 * 24) / 9900)
    assert d.rao_q == pytest.approx(2 * (0.125 * 2 / 3 + 0.125 * 1 + 0.0625 / 3))
    assert (d.hill_1, d.hill_2) == pytest.approx((2**1.5, 1 / 0.375))
    x = np.sort([0] * 50 + [2] * 25 + [3] * 25)
    i = np.arange(1, 101)
    assert d.gini == pytest.approx(((2 * i - 101) * x).sum() / (100 * x.sum()))


def test_partition_and_icc_by_hand():
    apart, alike = np.array([[10, 0, 0, 0], [0, 0, 0, 10]]), np.array([[5, 0, 0, 5]] * 2)
    assert dv.partition(apart)["between_share"] == pytest.approx(1.0)
    assert dv.partition(alike)["between_share"] == pytest.approx(0.0)
    assert dv.intraclass(apart) == pytest.approx(1.0)
    # one-way analysis of variance by hand: groups (0, 0, 1) and (1, 1, 0)
    counts = np.array([[2, 1], [1, 2]])
    between, within = 3 * 2 * (1 / 6) ** 2 / 1, (2 / 3 + 2 / 3) / 4
    assert dv.intraclass(counts) == pytest.approx((between - within) / (between + 2 * within))
    assert dv.partition(apart[:1]) is None
    assert dv.intraclass(np.array([[5, 0], [5, 0]])) is None


def test_bimodality_against_a_mixture_model():
    from sklearn.mixture import GaussianMixture

    rng = np.random.default_rng(0)
    two = np.concatenate([rng.normal(0.2, 0.05, 3000), rng.normal(0.8, 0.10, 1000)])
    fit = dv.bimodality(two)
    theirs = GaussianMixture(2, random_state=0).fit(two[:, None])
    order = np.argsort(theirs.means_.ravel())
    np.testing.assert_allclose(fit["means"], theirs.means_.ravel()[order], atol=0.01)
    np.testing.assert_allclose(fit["weights"], theirs.weights_[order], atol=0.01)
    one = GaussianMixture(1, random_state=0).fit(two[:, None])
    expected = one.bic(two[:, None]) - theirs.bic(two[:, None])
    assert fit["delta_bic"] == pytest.approx(expected, rel=0.02)
    assert fit["bimodal"] is True
    assert dv.bimodality(rng.normal(0.5, 0.1, 4000))["bimodal"] is False


@pytest.mark.parametrize(
    ("x", "y", "positive"),
    [
        ([], [], []),
        ([5.0], [5.0], [True]),
        ([1.0, 2.0], [1.0, 1.0], [True, False]),
        (np.zeros(80), np.zeros(80), np.arange(80) % 2 == 0),
        (np.arange(200.0) * 10, np.zeros(200), np.arange(200) < 60),
        (np.arange(200.0) * 10, np.arange(200.0), np.zeros(200, bool)),
        (np.arange(200.0) * 10, np.arange(200.0), np.ones(200, bool)),
        (np.repeat(np.arange(60.0), 3) * 10, np.zeros(180), np.arange(180) % 3 == 0),
        (np.arange(60) * 1e5, np.arange(60) * 1e5, np.arange(60) % 2 == 0),
    ],
    ids=["none", "one", "two", "one place", "in a row", "all negative", "all positive",
         "three at each place", "far apart"],
)  # fmt: skip
def test_degenerate_tables_give_reasons_and_no_nan(x, y, positive):
    cells = {
        "x_um": np.array(x, float),
        "y_um": np.array(y, float),
        "positive": np.array(positive, bool),
    }
    h = measure(cells, settings=FAST)
    plain = h.model_dump(mode="json")
    assert finite(plain)
    json.dumps(plain, allow_nan=False)
    if h.pattern.type == "not_evaluable" or h.pattern.p_value is None:
        assert h.pattern.reason


def test_few_cells_have_no_type():
    h = measure(table(np.arange(49.0), np.zeros(49), np.arange(49) < 20), settings=FAST)
    assert h.pattern.type == "not_evaluable"
    assert "at least 50" in h.pattern.reason
    assert h.intervals["positive_cell_fraction"] is None
    assert "blocks" in h.intervals["reason"]


def test_other_cells_do_not_count(clustered, measured):
    n = len(clustered["x_um"])
    both = {k: np.concatenate([v, v[:200]]) for k, v in clustered.items()}
    both["cell_type"] = np.array(["tumour"] * n + ["other"] * 200)
    h = measure(both, settings=FAST)
    assert h.positive_cell_fraction == measured.positive_cell_fraction
    assert h.pattern.moran_i == measured.pattern.moran_i


def test_slides_in_one_table_do_not_touch():
    x, y, _ = drawn("homogeneous", 5)
    n = x.size
    cells = table(np.tile(x, 2), np.tile(y, 2), np.repeat([True, False], n))
    together = measure(cells, settings=FAST)
    apart = measure(cells | {"slide_id": np.repeat(["s1", "s2"], n)}, settings=FAST)
    # over each other the two slides look evenly mixed; side by side they are two clones
    assert apart.pattern.moran_i > 0.95 > together.pattern.moran_i
    assert apart.bystander.coverage[-1] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"x_um": [1.0], "y_um": [2.0]}, "nothing about HER2"),
        ({"x_um": [1.0], "positive": [True]}, "'y_um'"),
        ({"x_um": [np.inf], "y_um": [0.0], "positive": [True]}, "row 1"),
        ({"positive": [True, None]}, "row 2"),
        ({"positive": [0, 2]}, "row 2"),
        ({"score": [0, 5]}, "row 2"),
        ({"score": ["0", "4+"]}, "4\\+"),
        ({"pattern": ["none", None]}, "row 2"),
        ({"her2": [1, -1], "cep17": [1, 1]}, "negative"),
        ({"her2": ["a"], "cep17": [1]}, "not numbers"),
    ],
)
def test_errors_name_column_and_row(cells, message):
    with pytest.raises(ManifestError, match=message):
        measure(cells, settings=FAST)


@pytest.mark.slow
@pytest.mark.parametrize("length_um", [50, 120, 220])
def test_intervals_hold_the_generating_fraction(length_um):
    """In 86-100 % of draws, where the binomial interval fails in a quarter to four fifths."""
    how = Settings().replace({"heterogeneity.interval_draws": 200})
    held = naive = 0
    for seed in range(50):
        rng = np.random.default_rng([length_um, seed])
        x, y = rng.uniform(0, 4000, (2, 6000))
        positive = smooth_field(rng, x, y, length_um) > 0.5
        cells = {"x_um": x, "y_um": y, "positive": positive}
        points = read_points(cells, ["intense_complete"], how)
        fit = fit_variogram(pair_counts(*points.at(), points.positive, 400.0, 10.0))
        blocks = cell_blocks(points, *block_side_um(points, fit, how), how)
        low, high = cell_intervals(points, blocks, how)["positive_cell_fraction"]
        held += low <= 0.3085 <= high  # P(Z > 0.5)
        p = positive.mean()
        naive += abs(p - 0.3085) <= 1.96 * math.sqrt(p * (1 - p) / 6000)
    assert held >= 43
    assert naive <= 40


def test_scores_and_unknown_patterns_are_refused():
    with pytest.raises(SettingsError, match="no IHC score"):
        measure({"pattern": ["none"]}, score="4+", settings=FAST)
    with pytest.raises(SettingsError, match="Valid: none"):
        measure({"pattern": ["none"]}, positive=["brown"], settings=FAST)


def test_guidelines_bring_their_own_positive_cells():
    cells = {"pattern": ["intense_incomplete"] * 50 + ["none"] * 50}
    assert measure(cells, settings=FAST).positive_cell_fraction == 0.0
    h = measure(cells, settings=FAST, guideline="gastric_resection")
    assert h.positive_cell_fraction == 0.5
    assert set(h.positive_definition) == {"intense_complete", "intense_incomplete"}


def test_virtual_biopsy_finds_what_is_there():
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, 8000, (2, 40_000))
    even = measure(table(x, y, np.ones(40_000, bool)), settings=FAST).virtual_biopsy
    assert even["agreement"] == 1.0
    assert even["finds_heterogeneity"] == 0.0
    half = measure(table(x, y, x < 2000), settings=FAST).virtual_biopsy
    assert half["finds_heterogeneity"] > 0.9
    assert [row["cores"] for row in half["table"]] == [1, 2, 3]
    found = [row["finds_heterogeneity"] for row in half["table"]]
    assert found == sorted(found)
    small = {"heterogeneity.biopsy_length_um": 300.0, "heterogeneity.biopsy_width_um": 300.0}
    one = measure(
        table(x, y, x < 2000), settings=FAST.replace(small | {"heterogeneity.biopsy_cores": 1})
    ).virtual_biopsy
    assert one["agreement"] < 0.5
    assert sum(one["scores"].values()) == pytest.approx(1.0)


def test_virtual_biopsy_of_a_small_tissue_says_what_it_cannot_tell():
    """Three needles of 10 mm never hold more cells than a core of 1.4 mm has."""
    from her2path.space.heterogeneity.biopsy import draw_cores

    rng = np.random.default_rng(3)
    x, y = rng.uniform(-700, 700, (2, 9000))
    x, y = (v[x * x + y * y < 700**2] for v in (x, y))
    counts, length = draw_cores(x, y, np.zeros(x.size, np.int8), 1, FAST)
    assert counts.sum(axis=(1, 2, 3)).max() <= x.size
    assert length.max() <= 1400.0
    facts = measure(table(x, y, np.ones(x.size, bool)), settings=FAST).virtual_biopsy
    assert 500 < facts["median_length_um"] <= 1400
    assert facts["share_of_one_core"] > 0.5
    assert facts["table"] == []
    assert facts["agreement"] is facts["finds_heterogeneity"] is None
    assert "too small for a core" in facts["reason"]
    wide = measure(table(2 * x, 2 * y, np.ones(x.size, bool)), settings=FAST).virtual_biopsy
    assert [row["cores"] for row in wide["table"]] == [1]
    assert "too small for 2 cores or more" in wide["reason"]
    assert wide["agreement"] is None


def test_no_heterogeneity_is_found_where_there_is_no_verdict():
    rng = np.random.default_rng(4)
    x, y = rng.uniform(0, 8000, (2, 20_000))
    h = measure({"x_um": x, "y_um": y, "pattern": np.where(x < 2000, "moderate_complete", "none")},
                settings=FAST)  # fmt: skip
    assert h.areas.heterogeneous_case is None
    assert h.virtual_biopsy["finds_heterogeneity"] is None
    assert h.virtual_biopsy["agreement"] > 0.3
    assert "judged at 3+ only" in h.virtual_biopsy["reason"]


def test_mean_biopsy_share_is_the_slides_own():
    """Cores hold 3+ areas as often as the tumour has them."""
    from her2path.space.heterogeneity.biopsy import draw_cores

    rng = np.random.default_rng(2)
    x, y = rng.uniform(0, 6000, (2, 30_000))
    code = (smooth_field(rng, x, y, 300.0) > 0.3).astype(np.int8)
    how = FAST.replace(
        {
            "heterogeneity.biopsy_draws": 400,
            "heterogeneity.biopsy_length_um": 500.0,
            "heterogeneity.biopsy_width_um": 500.0,
        }
    )
    counts = draw_cores(x, y, code, 2, how)[0].sum(axis=(0, 1, 2))
    assert counts[1] / counts.sum() == pytest.approx(code.mean(), abs=0.03)
    again = draw_cores(x, y, code, 2, how)[0].sum(axis=(0, 1, 2))
    np.testing.assert_array_equal(counts, again)
