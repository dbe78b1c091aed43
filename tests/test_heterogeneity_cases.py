"""Cases: areas over samples, parts between and within, changes over time."""

from __future__ import annotations

import json

import numpy as np
import pytest

from her2path.core.errors import ManifestError
from her2path.core.settings import Settings
from her2path.space.heterogeneity import case, compare, sample

FAST = Settings().replace({"heterogeneity.interval_draws": 100})


def tissue(seed, mix, side=2400.0, n=6000):
    """Cells of one sample with independent patterns in given shares."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, side, (2, n))
    words = list(mix)
    code = rng.choice(len(words), n, p=list(mix.values()))
    return {"x_um": x, "y_um": y, "pattern": np.array(words)[code]}


POSITIVE = {"intense_complete": 0.8, "moderate_complete": 0.2}
LOW = {"none": 0.4, "faint_incomplete": 0.6}
NULL = {"none": 0.995, "faint_incomplete": 0.005}


def test_filho_over_all_areas_of_a_case():
    pos, low = sample("a", tissue(1, POSITIVE), FAST), sample("b", tissue(2, LOW), FAST)
    alone = case([pos], FAST)
    both = case([pos, low], FAST)
    assert alone["areas"]["heterogeneous_case"] is False
    assert both["areas"]["heterogeneous_case"] is True
    assert both["areas"]["n"] == pos.areas.cells.size + low.areas.cells.size
    assert both["areas"]["negative"] == low.areas.cells.size
    assert case([low], FAST)["areas"]["heterogeneous_case"] is None


def test_parts_add_up():
    parts = case([sample("a", tissue(1, POSITIVE), FAST), sample("b", tissue(2, LOW), FAST)], FAST)[
        "partition"
    ]
    total = parts["between_samples"] + parts["between_areas"] + parts["within_areas"]
    assert total == pytest.approx(parts["total"])
    assert parts["between_samples_share"] > 0.6
    assert parts["between_areas_share"] < 0.02
    assert parts["icc_samples"] > 0.7
    one = case([sample("a", tissue(1, POSITIVE), FAST)], FAST)["partition"]
    assert one["between_samples"] == 0.0
    assert one["icc_samples"] is None


def test_conversion_over_time_with_intervals():
    early = sample("biopsy", tissue(3, LOW), FAST, timepoint="2021-03-01")
    late = sample("residual", tissue(4, NULL), FAST, timepoint="2021-09-10")
    facts = case([late, early], FAST)
    assert [t["timepoint"] for t in facts["timepoints"]] == ["2021-03-01", "2021-09-10"]
    (change,) = facts["changes"]
    assert change["conversion"] == "low -> null"
    assert change["converted"] is True
    assert change["direction"] == "down"
    assert change["score_change"] == -1
    h = change["changes"]["h_score"]
    assert h["low"] < -59.5 < h["high"]
    assert h["excludes_zero"] is True
    json.dumps(facts, allow_nan=False)


def test_no_change_is_not_called_one():
    called = 0
    for seed in range(20):
        one = sample("a", tissue(100 + seed, LOW), FAST, timepoint="1")
        two = sample("b", tissue(200 + seed, LOW), FAST, timepoint="2")
        called += compare([one], [two], FAST)["changes"]["h_score"]["excludes_zero"]
    assert called <= 3


def test_times_sort_as_numbers_or_words():
    names = ["10", "9", "2"]
    facts = case([sample(n, tissue(5, LOW, n=600), FAST, timepoint=n) for n in names], FAST)
    assert [t["timepoint"] for t in facts["timepoints"]] == ["2", "9", "10"]
    # each later time point against the first and against the one before
    steps = [(c["from"], c["to"]) for c in facts["changes"]]
    assert steps == [("2", "9"), ("2", "10"), ("9", "10")]


def test_samples_of_one_time_are_pooled():
    a = sample("a", tissue(1, LOW), FAST, timepoint="1")
    b = sample("b", tissue(2, POSITIVE), FAST, timepoint="1")
    c = sample("c", tissue(3, NULL), FAST, timepoint="2")
    facts = case([a, b, c], FAST)
    assert facts["timepoints"][0]["cells"] == 12_000
    assert facts["timepoints"][0]["category"] == "positive"
    assert facts["changes"][0]["conversion"] == "positive -> null"


def test_order_of_samples_does_not_matter():
    samples = [
        sample("a", tissue(1, LOW), FAST, timepoint="1"),
        sample("b", tissue(2, POSITIVE), FAST, timepoint="2"),
    ]
    assert case(samples, FAST) == case(samples[::-1], FAST)


def test_small_samples_have_a_reason_in_place_of_an_interval():
    tiny = {"pattern": ["faint_incomplete"] * 60}
    both = [sample(name, tiny, FAST, timepoint=name) for name in ("1", "2")]
    facts = case(both, FAST)
    entry = facts["changes"][0]["changes"]["h_score"]
    assert (entry["low"], entry["excludes_zero"]) == (None, None)
    assert "blocks" in entry["reason"]


def test_nothing_to_measure():
    assert case([], FAST)["reason"] == "no sample was evaluable"
    with pytest.raises(ManifestError, match="'empty'"):
        sample("empty", {"pattern": []}, FAST)
    with pytest.raises(ManifestError, match="'flags'"):
        sample("flags", {"positive": [True] * 80}, FAST)


def test_area_shares_change_with_intervals():
    early = sample("biopsy", tissue(3, POSITIVE), FAST, timepoint="1")
    late = sample(
        "residual", tissue(4, {"intense_complete": 0.3, "none": 0.7}), FAST, timepoint="2"
    )
    facts = case([early, late], FAST)
    assert (
        facts["timepoints"][0]["area_fraction_5_50"],
        facts["timepoints"][1]["area_fraction_5_50"],
    ) == (0.0, 1.0)
    entry = facts["changes"][0]["changes"]["area_fraction_5_50"]
    assert (entry["change"], entry["low"], entry["high"]) == (1.0, 1.0, 1.0)
    assert facts["changes"][0]["changes"]["positive_area_fraction"]["change"] == -1.0
    assert facts["changes"][0]["score_change_probability"] == {"down": 0.0, "same": 1.0, "up": 0.0}


def test_chance_of_a_conversion_is_high_only_where_it_is_near():
    low = sample("a", tissue(1, LOW), FAST, timepoint="1")
    null = sample("b", tissue(2, NULL), FAST, timepoint="2")
    edge = sample("c", tissue(3, {"none": 0.9, "faint_incomplete": 0.1}), FAST, timepoint="3")
    assert compare([low], [null], FAST)["conversion_probability"] == 1.0
    assert compare([low], [low], FAST)["conversion_probability"] == 0.0
    assert 0.1 < compare([low], [edge], FAST)["conversion_probability"] < 0.9


def test_parts_have_intervals_within_the_samples():
    a, b = sample("a", tissue(1, POSITIVE), FAST), sample("b", tissue(2, LOW), FAST)
    parts = case([a, b], FAST)["partition"]
    for name in ("between_samples", "between_areas", "within_areas"):
        low, high = parts[f"{name}_share_interval"]
        assert low <= parts[f"{name}_share"] <= high
    assert parts["icc_areas_interval"][0] <= parts["icc_areas"] <= parts["icc_areas_interval"][1]
    tiny = sample("t", {"pattern": ["faint_incomplete"] * 60}, FAST)
    assert "blocks" in case([tiny], FAST)["partition"]["interval_reason"]


def test_ish_counts_decide_the_case():
    row = {"heterogeneous": {"filho_2021": True, "reasons": {"filho_2021": "areas: 2"}}}
    low = sample("b", tissue(2, LOW), FAST)
    assert case([low], FAST)["areas"]["heterogeneous_case"] is None
    told = case([low], FAST, row)["areas"]
    assert (told["heterogeneous_case"], told["basis"], told["reason"]) == (True, "ish", "areas: 2")
