"""Figures of agreement against published tables, other packages and tables worked by hand."""

from __future__ import annotations

import krippendorff
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa

from her2path.scoring.agreement import several
from her2path.scoring.agreement.draws import Draws, add_figure, interval, make_draws
from her2path.scoring.agreement.pairwise import (
    Figure,
    binary,
    gwet,
    kappa,
    lower_end,
    moments,
    pair,
)
from her2path.scoring.agreement.scale import collapsed

#: Fleiss 1971, Psychol Bull 76:378: 30 patients, six psychiatrists each, five diagnoses
FLEISS_1971 = """00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050
02031 00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006"""
#: Krippendorff 2011: four observers, twelve units, values 1 to 5 (0: no value)
KRIPPENDORFF_2011 = ("123321412000", "123322412503", "033323422510", "123324412510")
#: Shrout & Fleiss 1979, Psychol Bull 86:420: six targets, four judges
SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)
#: Bland & Altman 1986, Lancet 1:307: peak flow of 17 subjects by two meters
LARGE = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
CODES = np.array([[int(v) - 1 for v in row] for row in KRIPPENDORFF_2011]).T


def figures_of(counts: np.ndarray) -> dict[str, float]:
    found = several.figures(several.features(counts).sum(0), counts.shape[1])
    return {path[0]: float(figure.value) for path, figure in found.items()}


# -- published ---------------------------------------------------------------------------------


def test_fleiss_1971_psychiatric_diagnoses() -> None:
    counts = np.array([[int(c) for c in row] for row in FLEISS_1971.split()], float)
    assert counts.shape == (30, 5)
    assert set(counts.sum(1)) == {6}
    shares = " ".join(f"{p:.3f}" for p in counts.sum(0) / 180)
    assert shares == "0.144 0.144 0.167 0.306 0.239"
    found = figures_of(counts)
    assert f"{found['pairwise']:.3f}" == "0.556"
    assert f"{found['fleiss']:.3f}" == "0.430"


def test_krippendorff_2011_example() -> None:
    found = figures_of(several.counts_of(CODES, 5))
    assert f"{found['alpha_nominal']:.3f}" == "0.743"
    assert f"{found['alpha']:.3f}" == "0.815"


def test_gwet_missing_reads_example() -> None:
    # the same twelve units as analysed in Gwet's handbook (and the package irrCAC)
    found = figures_of(several.counts_of(CODES, 5))
    assert f"{found['pairwise']:.5f}" == "0.81818"
    assert f"{found['ac1']:.5f}" == "0.77544"
    assert f"{found['fleiss']:.5f}" == "0.76117"


def test_feinstein_cicchetti_1990_paradox() -> None:
    # the same overall agreement, 0.85, and two kappas
    even, skewed = np.array([[40.0, 9], [6, 45]]), np.array([[80.0, 10], [5, 5]])
    assert [f"{kappa(t):.2f}" for t in (even, skewed)] == ["0.70", "0.32"]
    for table in (even, skewed):
        found = binary(table)
        assert found["opa",].value == pytest.approx(0.85)
        assert found["pabak",].value == pytest.approx(0.70)
    assert f"{gwet(skewed):.2f}" == "0.81"


def test_shrout_fleiss_1979_icc() -> None:
    assert f"{several.icc(several.icc_features(SHROUT_FLEISS).sum(0)):.2f}" == "0.29"


def test_bland_altman_1986_peak_flow() -> None:
    a, b = np.array(MINI, float), np.array(LARGE, float)
    sums = np.array([a.sum(), b.sum(), (a * a).sum(), (b * b).sum(), (a * b).sum()])
    m = moments(np.array(17.0), sums)
    sd = np.sqrt((m.var_a + m.var_b - 2 * m.cov) * 17 / 16)
    assert f"{m.mean_b - m.mean_a:.1f}" == "-2.1"
    assert f"{sd:.1f}" == "38.8"


# -- other packages ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_kappa_as_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.choice(4, 60, p=[0.1, 0.2, 0.3, 0.4])
    b = np.clip(a + rng.integers(-1, 2, 60), 0, 3)
    table = np.zeros((4, 4))
    np.add.at(table, (a, b), 1)
    for power, weights in enumerate((None, "linear", "quadratic")):
        wanted = cohen_kappa_score(a, b, labels=[0, 1, 2, 3], weights=weights)
        assert kappa(table, power) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_fleiss_as_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(7, [0.4, 0.3, 0.2, 0.1], 50).astype(float)
    assert figures_of(counts)["fleiss"] == pytest.approx(fleiss_kappa(counts), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_alpha_as_krippendorff_with_missing_reads(seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = np.clip(rng.integers(0, 4, (40, 1)) + rng.integers(-1, 2, (40, 6)), 0, 3)
    codes[rng.random(codes.shape) < 0.3] = -1
    found = figures_of(several.counts_of(codes, 4))
    data = np.where(codes < 0, np.nan, codes).T
    for name, level in (("alpha", "ordinal"), ("alpha_nominal", "nominal")):
        wanted = krippendorff.alpha(data, level_of_measurement=level, value_domain=range(4))
        assert found[name] == pytest.approx(wanted, abs=1e-12)


def test_two_readers_icc_is_that_of_many() -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 4, 30)
    y = np.clip(x + rng.integers(-1, 2, 30), 0, 3)
    table = np.zeros((4, 4))
    np.add.at(table, (x, y), 1)
    both = several.icc_features(np.column_stack([x, y]).astype(float)).sum(0)
    assert pair(table)["icc",].value == pytest.approx(float(several.icc(both)), abs=1e-12)


# -- by hand -----------------------------------------------------------------------------------


def test_table_by_hand() -> None:
    # 2 0 0 0 / 1 1 0 0 / 0 1 2 0 / 0 0 0 3: of 10 reads 8 alike, 2 a step apart
    table = np.array([[2, 0, 0, 0], [1, 1, 0, 0], [0, 1, 2, 0], [0, 0, 0, 3]], float)
    found = {path: float(f.value) for path, f in pair(table).items()}
    assert found["exact",] == pytest.approx(0.8)
    # by chance: (2*3 + 2*2 + 3*2 + 3*3) / 100 = 0.25
    assert found["kappa", "plain"] == pytest.approx((0.8 - 0.25) / 0.75)
    assert found["pabak",] == pytest.approx((4 * 0.8 - 1) / 3)
    # mean shares 0.25, 0.2, 0.25, 0.3: sum p(1-p) / 3 = 0.745 / 3
    assert found["ac1",] == pytest.approx((0.8 - 0.745 / 3) / (1 - 0.745 / 3))
    # means 1.7 and 1.5, mean squares 4.1 and 3.7, mean product 3.8
    va, vb, cov = 4.1 - 1.7**2, 3.7 - 1.5**2, 3.8 - 1.7 * 1.5
    assert found["ccc",] == pytest.approx(2 * cov / (va + vb + 0.2**2))
    at = {k[2]: v for k, v in found.items() if k[:2] == ("cutoffs", "0|1+")}
    assert (at["opa"], at["ppa"], at["npa"]) == pytest.approx((0.9, 7 / 8, 1.0))
    assert (at["apa"], at["ana"]) == pytest.approx((14 / 15, 4 / 5))


def test_collapsed_keeps_the_counts() -> None:
    table = np.arange(16.0).reshape(4, 4)
    assert collapsed(table, 1).tolist() == [[0, 6], [24, 90]]
    assert collapsed(table, 3).tolist() == [[45, 21], [39, 15]]


def test_lower_end_by_hand() -> None:
    table = np.array([[3.0, 1, 0], [1, 2, 1], [0, 1, 6]])
    found = {path[2]: float(f.value) for path, f in lower_end(table).items()}
    assert found["opa"] == pytest.approx(11 / 15)
    assert found["ppa"] == pytest.approx(10 / 11)
    assert found["npa"] == pytest.approx(3 / 4)
    assert (found["null"], found["ultralow"], found["low"]) == pytest.approx((3 / 4, 1 / 2, 6 / 7))


@pytest.mark.parametrize("table", [np.zeros((4, 4)), np.diag([5.0, 0, 0, 0])])
def test_what_is_not_defined_is_nan_and_warns_of_nothing(table: np.ndarray) -> None:
    found = pair(table)
    assert np.isnan(found["kappa", "plain"].value)
    assert np.isnan(found["icc",].value)


def test_figures_of_many_tables_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    tables = rng.integers(0, 9, (4, 4, 3, 5)).astype(float)
    many = pair(tables)
    for path, figure in pair(tables[:, :, 1, 2]).items():
        assert many[path].value[1, 2] == pytest.approx(float(figure.value), nan_ok=True)


# -- intervals ---------------------------------------------------------------------------------


def test_draws_are_samples_of_all_cases() -> None:
    draws = make_draws(50, 200, 1)
    assert (draws.weights[:, 0] == 1).all()
    assert set(draws.weights.sum(0)) == {50}
    assert np.array_equal(draws.weights, make_draws(50, 200, 1).weights)


@pytest.mark.parametrize("shape", [(50, 3, 200), (7, 60, 1300), (1, 1, 1)])
def test_weighted_sums_are_a_product_of_matrices(shape: tuple[int, int, int]) -> None:
    cases, terms, columns = shape
    rng = np.random.default_rng(2)
    features = rng.random((cases, terms)) * (rng.random((cases, terms)) < 0.4)
    weights = rng.integers(0, 6, (cases, columns)).astype(np.uint8)
    assert Draws(weights).sums(features) == pytest.approx(features.T @ weights, rel=1e-12)
    ones = (features > 0).astype(np.float32)
    assert np.array_equal(Draws(weights).sums(ones), ones.T @ weights.astype(np.float64))


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    inside = 0
    for k in range(200):
        hits = (rng.random(80) < 0.7).astype(float)
        draws = make_draws(80, 300, k)
        low, high = interval(draws.sums(hits[:, None])[0, 1:] / 80)
        inside += low <= 0.7 <= high
    assert 0.90 <= inside / 200 <= 0.99


def test_perfect_agreement_takes_wilsons_interval() -> None:
    tree: dict = {}
    add_figure(tree, ("opa",), Figure(np.ones(101), np.full(101, 10.0)))
    assert tree["opa"] == 1
    assert tree["opa_low"] == pytest.approx(0.7225, abs=1e-4)
    assert tree["opa_high"] == 1


def test_a_figure_that_few_draws_have_gets_no_interval() -> None:
    values = np.full((2, 100), 0.5)
    values[0, :20] = np.nan
    low, _ = interval(values)
    assert np.isnan(low[0])
    assert low[1] == 0.5
