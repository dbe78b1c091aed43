"""The JSON Schema of agreement.json describes what is written, and would notice what is not."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import pytest

from her2path import api
from her2path.scoring.agreement import AgreeOptions, parse_comparison
from her2path.scoring.agreement.schema import json_schema


@pytest.fixture(scope="module")
def tree() -> dict[str, Any]:
    rows = [
        {"case_id": f"c{c}", "reader": reader, "read_no": no,
         "score": ("0/null", "1+", "2+", "3+")[(c + (c % 5 == k) + no) % 4],
         "h_score": 40 * (c % 5) + k, "ish": "positive" if c % 4 > 1 else "negative",
         "lab": "x" if c % 2 else "y"}
        for c in range(24) for k, reader in enumerate(("a", "b", "c", "reference"))
        for no in ((1, 2) if reader == "a" else (1,))
    ]  # fmt: skip
    options = AgreeOptions(100, compare=(parse_comparison("kappa.quadratic:a,b:a,c"),))
    reads = {k: [r[k] for r in rows] for k in rows[0]}
    return dict(api.agree(reads, strata=("lab",), options=options))


def test_what_is_written_fits(tree: dict[str, Any]) -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(tree, schema)
    known = schema["properties"]
    assert set(tree) <= set(known)


@pytest.mark.parametrize("path", [
    ("pairs", 1, "exact"), ("pairs", 1, "kappa", "quadratic"), ("all", "alpha"),
    ("pairs", 1, "cutoffs", "1+|2+", "ppa"), ("strata", "lab", "x", "pairs", 1, "ac2"),
    ("intra", 0, "icc"), ("differences", 0, "difference"), ("onest", "exact", 0, "opa"),
])  # fmt: skip
def test_a_figure_that_is_missing_or_a_word_is_noticed(tree: dict[str, Any], path: tuple) -> None:
    for wrong in ("gone", "word"):
        changed = copy.deepcopy(tree)
        place: Any = changed
        for step in path[:-1]:
            place = place[step]
        if wrong == "gone":
            del place[path[-1]]
        else:
            place[path[-1]] = "high"
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(changed, json_schema())
