"""The JSON Schema of ``agreement.json``; every figure has its interval beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["json_schema"]

Schema = dict[str, Any]
_NUMBER: Schema = {"type": ["number", "null"]}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_WORDS: Schema = {"type": "string"}
#: cut-offs of the four scores
_SCORES = ("0|1+", "1+|2+", "2+|3+")
_STRATA = "null|ultralow|low"
_PAIR = ("exact", "pabak", "ac1", "ac2", "icc", "ccc")
_ALL = ("exact", "pairwise", "fleiss", "alpha", "alpha_nominal", "pabak", "ac1", "ac2", "icc")


def _figures(names: Sequence[str], more: Schema | None = None) -> Schema:
    """Return an object of figures: NAME, NAME_low, NAME_high, each a number or null."""
    found: Schema = {n: _NUMBER for name in names for n in (name, f"{name}_low", f"{name}_high")}
    return {"type": "object", "properties": found | (more or {}), "required": list(names)}


def _listed(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _or_null(of: Schema) -> Schema:
    return {"anyOf": [of, {"type": "null"}]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _fourfold() -> Schema:
    names = ("opa", "ppa", "npa", "apa", "ana", "kappa", "pabak", "ac1")
    return _figures(names, {"n": _COUNT})


def _measured(more: Schema, required: Sequence[str]) -> Schema:
    """Return what two reads of the same items are measured by."""
    cutoffs = {c: _ref("cutoff") for c in _SCORES}
    strata = _figures(("opa", "kappa", "ppa", "npa", "null", "ultralow", "low"), {"n": _COUNT})
    made = _figures(_PAIR, {
        "n": _COUNT, **more, "kappa": _figures(("plain", "linear", "quadratic")),
        "cutoffs": {"type": "object", "properties": {**cutoffs, _STRATA: strata}},
        "table": _listed(_listed(_COUNT)),
    })  # fmt: skip
    # h_score and percent_*, where both gave them
    made["patternProperties"] = {"^(h_score|percent_.+)$": {"type": "object"}}
    return {**made, "required": [*required, "n", *_PAIR, "kappa", "cutoffs"]}


def _all() -> Schema:
    cutoff = _figures(("exact", "pairwise", "fleiss", "alpha", "pabak", "ac1"))
    return _figures(_ALL, {
        "readers": _COUNT, "n": _COUNT, "complete": _COUNT,
        "cutoffs": {"type": "object", "properties": dict.fromkeys(_SCORES, cutoff)},
    })  # fmt: skip


def _difference() -> Schema:
    return _figures(("difference",), {
        "figure": _WORDS, "of": _listed(_WORDS), "minus": _listed(_WORDS), "n": _COUNT,
        "margin": {"type": "number"}, "non_inferior": {"type": ["boolean", "null"]},
    })  # fmt: skip


def _onest() -> Schema:
    step = {"type": "object", "properties": {
        "readers": _COUNT, "n": _COUNT, "opa": _NUMBER, "lowest": _NUMBER, "highest": _NUMBER,
    }, "required": ["readers", "opa"]}  # fmt: skip
    return {"type": "object", "properties": {
        "orders": _COUNT, "exact": _listed(step),
        "cutoffs": {"type": "object", "additionalProperties": _listed(step)},
        "plateau": {"type": ["integer", "null"]},
    }}  # fmt: skip


def _reader() -> Schema:
    return {"type": "object", "properties": {
        "reader": _WORDS, "items": _COUNT, "missing": _COUNT, "reads": _COUNT,
        "scores": {"type": "object", "additionalProperties": _COUNT},
    }, "required": ["reader", "items"]}  # fmt: skip


def json_schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of what `agree` writes."""
    part: Schema = {"pairs": _listed(_ref("pair")), "all": _or_null(_ref("all")),
                    "all_with_program": _or_null(_ref("all")),
                    "differences": _listed(_ref("difference"))}  # fmt: skip
    stratum = {"type": "object", "properties": {"cases": _COUNT, "items": _COUNT, **part}}
    two = {"a": _WORDS, "b": _WORDS}
    again = {"reader": _WORDS, "first": _COUNT, "second": _COUNT}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "agreement.json",
        "description": "Beside every figure NAME stand NAME_low and NAME_high, its 95 % interval; "
        "null is not defined. Formulas: docs/agreement.md.",
        "type": "object",
        "$defs": {
            "cutoff": _fourfold(), "pair": _measured(two, ("a", "b")), "all": _all(),
            "intra": _measured(again, tuple(again)), "difference": _difference(),
        },
        "properties": {
            "schema_version": _COUNT, "her2path_version": _WORDS, "readers": _listed(_reader()),
            "cases": _COUNT, "items": _COUNT, "settings": {"type": "object"}, **part,
            "onest": _or_null(_onest()), "intra": _listed(_ref("intra")),
            "strata": {"type": "object", "additionalProperties": {
                "type": "object", "additionalProperties": stratum}},
            "without_result": {"type": ["array", "null"]},
            "outcome": {"type": ["object", "null"]},
        },
        "required": ["schema_version", "her2path_version"],
    }  # fmt: skip
