"""Classes of areas, Wilson intervals, Filho's verdict and the chance of a false alarm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from her2path.core.intervals import AreaRules, area_class, wilson
from her2path.core.settings import Settings
from her2path.scoring.false_alarms import false_alarm, within_area
from her2path.space.heterogeneity import measure
from her2path.space.heterogeneity.areas import area_table, filho
from her2path.space.heterogeneity.uneven import area_difference

RULES = AreaRules()
FAST = Settings().replace({
    "heterogeneity.permutations": 99, "heterogeneity.interval_draws": 50,
    "heterogeneity.biopsy_draws": 20,
})  # fmt: skip


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipy(pair):
    k, n = pair
    theirs = stats.binomtest(k, n).proportion_ci(0.95, "wilson")
    assert wilson(k, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert wilson(k, n)[0] <= k / n <= wilson(k, n)[1]


def test_wilson_of_nothing_and_nonsense():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == 1.0
    for k, n in ((-1, 3), (4, 3), (0, -1)):
        with pytest.raises(ValueError, match="not a fraction"):
            wilson(k, n)


@pytest.mark.parametrize(
    ("k", "n", "kind", "certain"),
    [
        (0, 49, "indeterminate", False), (0, 0, "indeterminate", False),
        (0, 50, "negative", False), (0, 100, "negative", True), (5, 100, "negative", False),
        (50, 1000, "negative", False), (51, 1000, "heterogeneous", False),
        (6, 100, "heterogeneous", False), (25, 100, "heterogeneous", True),
        (49, 100, "heterogeneous", False), (50, 100, "positive", False),
        (499, 1000, "heterogeneous", False), (500, 1000, "positive", False),
        (80, 100, "positive", True), (100, 100, "positive", True),
        (499_999, 1_000_000, "heterogeneous", False), (3, 60, "negative", False),
    ],
)  # fmt: skip
def test_area_classes(k, n, kind, certain):
    assert area_class(k, n) == (kind, certain)


def test_limits_are_the_decimals_that_were_written():
    # 0.07 * 100 is 7.000000000000001 in binary: 7 of 100 is not above 7 %
    assert area_class(7, 100, low=0.07)[0] == "negative"
    assert area_class(29, 100, high=0.29)[0] == "positive"


def areas_of(*pairs):
    k, n = (np.array(v) for v in zip(*pairs, strict=True))
    return area_table(tuple(f"a{i}" for i in range(k.size)), k, n, np.ones(k.size), RULES)


@pytest.mark.parametrize(
    ("pairs", "her2_positive", "expected"),
    [
        ([(90, 100), (60, 100)], True, False),
        ([(90, 100), (40, 100)], True, True),
        ([(90, 100), (1, 100)], True, True),
        ([(90, 100), (1, 40)], True, False),
        ([(90, 100), (40, 100)], False, False),
        ([(90, 100), (40, 100)], None, None),
        ([(9, 10)], True, None),
    ],
)
def test_filho(pairs, her2_positive, expected):
    verdict, reason = filho(areas_of(*pairs), her2_positive, "unknown")
    assert verdict is expected
    assert reason


def test_a_negative_ish_area_makes_the_case_heterogeneous():
    assert filho(areas_of((90, 100), (80, 100)), True, "", ("a1",))[0] is True


def test_false_alarm_by_hand():
    # areas of 2 and 3 cells at p = 0.5: positive from 1 of 2 (3/4) and 2 of 3 (1/2)
    rules = AreaRules(min_cells=1)
    assert false_alarm(np.array([2, 3]), 0.5, rules) == pytest.approx(1 - 3 / 4 / 2)
    assert false_alarm(np.array([10]), 0.6, AreaRules()) is None


def test_false_alarm_equals_scipy():
    n, p, rho = np.array([60, 100, 100, 333]), 0.58, 0.03
    a, b = p * (1 - rho) / rho, (1 - p) * (1 - rho) / rho
    need = np.array([30, 50, 50, 167])
    plain = 1 - np.prod(stats.binom.sf(need - 1, n, p))
    alike = 1 - np.prod(stats.betabinom.sf(need - 1, n, a, b))
    assert false_alarm(n, p, RULES) == pytest.approx(plain, rel=1e-9)
    assert false_alarm(n, p, RULES, rho) == pytest.approx(alike, rel=1e-6)
    assert alike > plain


@pytest.mark.parametrize(
    ("p", "rho", "expected"), [(0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.8, 1.0, 0.36), (0.8, 0.0, 0.0)]
)
def test_false_alarm_at_the_ends(p, rho, expected):
    assert false_alarm(np.array([1000, 1000]), p, RULES, rho) == pytest.approx(expected, abs=1e-12)


def test_false_alarm_holds_in_simulation():
    rng = np.random.default_rng(0)
    n, p, rho = np.array([60, 80, 120, 55]), 0.6, 0.02
    scale = (1 - rho) / rho
    own = rng.beta(p * scale, (1 - p) * scale, (4000, 4))
    alarm = (rng.binomial(n, own) * 2 < n).any(axis=1).mean()
    assert false_alarm(n, p, RULES, rho) == pytest.approx(alarm, abs=0.025)


def test_within_area_correlation_is_recovered():
    rng = np.random.default_rng(1)
    n = rng.integers(60, 200, 600)
    rho, p = 0.1, 0.4
    k = rng.binomial(n, rng.beta(p * 9, (1 - p) * 9, 600))
    assert within_area(k, n) == pytest.approx(rho, abs=0.02)
    assert within_area(rng.binomial(n, p), n) < 0.005
    assert within_area(np.array([50, 0]), np.array([50, 50])) == 1.0
    for k, n in (([5], [50]), ([0, 0], [50, 50]), ([50, 50], [50, 50]), ([], [])):
        assert within_area(np.array(k, int), np.array(n, int)) is None


def _cells(pattern):
    rng = np.random.default_rng(9)
    x, y = rng.uniform(0, 2000, (2, 6000))
    return {"x_um": x, "y_um": y, "pattern": pattern(x, y, rng)}


def test_verdict_and_chance_agree_for_an_even_mix_and_for_a_clone():
    """A quarter of the cells is positive: the verdict is the same, what speaks for it is not."""
    even = measure(_cells(lambda x, y, r: np.where(r.random(x.size) < 0.25, "intense_complete",
                                                   "none")), settings=FAST).areas  # fmt: skip
    clone = measure(_cells(lambda x, y, r: np.where(x < 500, "intense_complete", "none")),
                    settings=FAST).areas  # fmt: skip
    assert even.heterogeneous_case is clone.heterogeneous_case is True
    assert even.false_alarm_probability == clone.false_alarm_probability == 1.0
    assert even.by_share_alone is clone.by_share_alone is True
    assert even.difference_p_value > 0.05
    assert clone.difference_p_value == 1 / (1 + FAST.heterogeneity.permutations)
    full = measure(_cells(lambda x, y, r: np.full(x.size, "intense_complete")), settings=FAST).areas
    assert full.heterogeneous_case is False
    assert full.by_share_alone is False
    assert full.difference_p_value is None


def test_area_difference_holds_its_level():
    rng = np.random.default_rng(5)
    how = FAST.replace({"heterogeneity.permutations": 199})
    cells = np.full(12, 80)
    p = [area_difference(rng.binomial(80, 0.3, 12), cells, how) for _ in range(200)]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09


def test_staining_is_uneven_where_glands_differ_though_few_cells_are_positive():
    two = ["faint_incomplete", "moderate_complete"]
    glands = measure(_cells(lambda x, y, r: np.take(two, (x // 500).astype(int) % 2)),
                     settings=FAST)  # fmt: skip
    assert glands.pattern.type == "homogeneous"
    assert glands.staining["uneven"] is True
    assert glands.staining["from_intensity"] == "moderate"
    assert "stronger" in glands.staining["reason"] or "weaker" in glands.staining["reason"]
    mixed = measure(_cells(lambda x, y, r: r.choice(two, x.size)), settings=FAST)
    assert mixed.staining["uneven"] is False
    positive = measure(_cells(lambda x, y, r: np.where(x < 900, "intense_complete", "none")),
                       settings=FAST)  # fmt: skip
    assert positive.staining["type"] == positive.pattern.type == "clustered"
    assert positive.staining["moran_i"] == positive.pattern.moran_i
