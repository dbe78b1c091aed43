"""Whatever table comes: figures or a reason, and never NaN or infinity in JSON."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from her2path.core.errors import ManifestError
from her2path.core.schema import PATTERNS
from her2path.core.settings import Settings
from her2path.space.heterogeneity import case, measure, sample

FAST = Settings().replace({
    "heterogeneity.permutations": 19, "heterogeneity.biopsy_draws": 10,
    "heterogeneity.interval_draws": 20, "heterogeneity.pattern_min_cells": 3,
    "regions.min_cells": 2, "ish.min_cells": 2, "score.min_cells": 1,
})  # fmt: skip


def finite(value):
    if isinstance(value, dict):
        return all(finite(v) for v in value.values())
    if isinstance(value, list | tuple):
        return all(finite(v) for v in value)
    return not isinstance(value, float) or math.isfinite(value)


@st.composite
def places(draw):
    """Positions of few cells: anywhere, in a row, on few spots, or far away."""
    n = draw(st.integers(1, 40))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    kind = draw(st.sampled_from(["anywhere", "row", "column", "spots", "one", "far", "negative"]))
    x, y = rng.uniform(0, 900, (2, n))
    if kind == "row":
        y[:] = 7.0
    elif kind == "column":
        x[:] = 7.0
    elif kind == "spots":
        x, y = np.round(x / 450) * 450, np.round(y / 450) * 450
    elif kind == "one":
        x[:], y[:] = 3.0, 4.0
    elif kind == "far":
        x, y = x * 9_000, y * 9_000
    elif kind == "negative":
        x, y = x - 5e5, y - 5e5
    return x, y, rng


@st.composite
def tables(draw):
    """A table of one of the kinds that `measure` takes."""
    x, y, rng = draw(places())
    n = x.size
    share = draw(st.sampled_from([0.0, 0.03, 0.5, 1.0]))
    marks = rng.random(n) < share
    what = draw(st.sampled_from(["positive", "pattern", "score", "ish"]))
    table = {"x_um": x, "y_um": y} if draw(st.booleans()) else {}
    if what == "positive":
        table["positive"] = marks
    elif what == "pattern":
        names = np.array(PATTERNS)[rng.integers(0, 7, n)]
        table["pattern"] = np.where(marks, "intense_complete", names)
    elif what == "score":
        table["score"] = np.where(marks, 3, rng.integers(0, 3, n))
    else:
        table["her2"] = np.where(marks, 12, rng.integers(0, 9, n))
        table["cep17"] = rng.integers(0, 4, n)
    if draw(st.booleans()):
        table["area_id"] = np.array(list("abc"))[rng.integers(0, 3, n)]
    if draw(st.booleans()):
        table["slide_id"] = rng.integers(0, 2, n)
    if draw(st.booleans()):
        table["membrane_od"] = np.where(marks, 1.0, 0.1)
    return table


@given(tables(), st.sampled_from([None, "2+", "3+"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_small_table_gives_figures_or_reasons(table, score):
    h = measure(table, settings=FAST, score=score)
    plain = h.model_dump(mode="json")
    json.dumps(plain, allow_nan=False)
    assert finite(plain)
    if plain["areas"] is not None and plain["areas"]["heterogeneous_case"] is None:
        assert plain["areas"]["reason"]
    if plain["pattern"]["p_value"] is None:
        assert plain["pattern"]["reason"]
    if plain["bystander"]["coverage"] is None:
        assert plain["bystander"]["reason"]
    if plain.get("intervals") and plain["intervals"]["positive_cell_fraction"] is None:
        assert plain["intervals"]["reason"]
    for low, value, high in _triples(plain):
        assert low - 1e-9 <= value <= high + 1e-9


def _triples(plain):
    """Interval and figure pairs that must hold each other."""
    known = plain.get("intervals") or {}
    for name in ("positive_cell_fraction", "positive_area_fraction", "area_fraction_5_50"):
        if known.get(name) is not None and plain[name] is not None:
            yield known[name][0], plain[name], known[name][1]
    for name in ("shannon", "simpson", "rao_q", "gini", "hill_1", "hill_2"):
        value = plain["diversity"].get(name)
        if known.get(name) is not None and value is not None:
            yield known[name][0], value, known[name][1]


@given(st.lists(tables(), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_case_of_small_samples(several):
    samples = []
    for i, table in enumerate(several):
        try:
            samples.append(sample(f"s{i}", table, FAST, timepoint=str(i // 2)))
        except ManifestError:
            continue  # a table without patterns is refused, with its name
    facts = case(samples, FAST)
    json.dumps(facts, allow_nan=False)
    assert finite(facts)
    for change in facts["changes"]:
        for entry in change["changes"].values():
            assert entry["low"] is not None or entry["reason"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e9])
@pytest.mark.parametrize("name", ["x_um", "y_um"])
def test_positions_that_are_none_are_refused(name, bad):
    table = {"x_um": [0.0, 1.0], "y_um": [0.0, 1.0], "positive": [True, False]}
    table[name] = [0.0, bad]
    with pytest.raises(ManifestError, match="row 2"):
        measure(table, settings=FAST)


def test_two_cells_and_one():
    for n in (1, 2):
        h = measure({"x_um": np.arange(n) * 5.0, "y_um": np.zeros(n), "score": [3] * n})
        assert h.pattern.type == "not_evaluable"
        assert h.areas.indeterminate == 1
        assert h.areas.heterogeneous_case is None
        assert h.diversity.shannon == 0.0
        assert h.bystander.coverage[0] == 1.0
