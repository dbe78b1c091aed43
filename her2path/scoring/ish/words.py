"""IHC scores as people write them, and the comments on ISH results."""

from __future__ import annotations

from her2path.core.errors import UsageError

__all__ = ["COMMENTS", "parse_ihc"]

_IHC = {
    "0": "0", "0+": "0", "null": "0/null", "0/null": "0/null", "ultralow": "0/ultralow",
    "0/ultralow": "0/ultralow", "1": "1+", "1+": "1+", "2": "2+", "2+": "2+", "3": "3+", "3+": "3+",
}  # fmt: skip

#: comments in our own words; the guidelines' wording may be put in their place by a report
COMMENTS: dict[str, str] = {
    "group_1_low_ihc": "ISH is positive while IHC is 0 or 1+: review both on the same tissue.",
    "group_2": "Ratio at or above 2.0 with fewer than 4.0 copies a cell: there is little evidence "
    "of benefit from HER2-targeted therapy without IHC 3+; read as negative.",
    "group_3": "Ratio below 2.0 with 6.0 or more copies a cell: without IHC 2+ or 3+ there is "
    "little evidence of benefit from HER2-targeted therapy; read as negative.",
    "group_3_positive": "Ratio below 2.0 with 6.0 or more copies a cell, at IHC 2+ or 3+: read as "
    "positive.",
    "group_4": "Ratio below 2.0 with 4.0 to less than 6.0 copies a cell: benefit from "
    "HER2-targeted therapy without IHC 3+ is uncertain, and a repeat near the limit may differ by "
    "chance; read as negative.",
    "by_ihc_3": "Positive by IHC 3+.",
    "group_5_ihc_3": "ISH alone is negative (group 5); IHC 3+ alone makes the case HER2-positive: "
    "review both on the same tissue.",
    "ihc_needed": "IHC on the same tissue is needed to read this ISH group.",
    "recount": "An observer who does not know the first count counts at least 20 more cells.",
    "recount_small": "The recount has too few cells.",
    "recount_same": "The recount gave the same group.",
    "recount_differs": "The recount gave another group than the first count: adjudicate by the "
    "laboratory's own procedure.",
    "single_review": "Single probe: review IHC on the same tissue; a dual probe is preferred.",
    "single_open": "Single probe with 4.0 to less than 6.0 copies a cell: IHC or a dual probe is "
    "needed.",
    "single_dual": "Single probe with 4.0 to less than 6.0 copies a cell at IHC 2+: a dual probe "
    "is due.",
    "equivocal": "Equivocal ISH: count more cells, repeat the test, or use another specimen.",
    "gastric_more": "Ratio below 2.0 with 4.0 to 6.0 copies a cell: count more cells.",
    "gastric_still": "Still 4.0 to 6.0 copies a cell on the recount, ratio below 2.0.",
    "no_fraction": "This guideline asks for the share of amplified cells, which needs counts of "
    "both probes cell by cell.",
    "dual_needed": "This guideline reads the ratio: a dual probe is needed.",
    "few": "Too few evaluable cells.",
}


def parse_ihc(value: object) -> str:
    """Return an IHC score as ``0``, ``0/null``, ``0/ultralow``, ``1+``, ``2+`` or ``3+``.

    Raises
    ------
    UsageError
        For anything else.
    """
    text = str(value).strip().lower().replace(" ", "").removeprefix("ihc").removesuffix(".0")
    text = text.removeprefix("her2-") if text.startswith("her2-") else text
    if text not in _IHC:
        raise UsageError(f"{str(value)[:40]!r} is no IHC score", "Valid: 0, 1+, 2+, 3+")
    return _IHC[text]
