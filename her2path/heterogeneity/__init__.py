"""Heterogeneity of HER2: areas and verdicts, shares, pattern, diversity, bystanders, biopsies."""

from __future__ import annotations

from her2path.heterogeneity.areas import AreaRules, AreaTable, area_table, false_alarm, within_area
from her2path.heterogeneity.cases import Sample, case, compare, sample
from her2path.heterogeneity.measure import measure

__all__ = [
    "AreaRules",
    "AreaTable",
    "Sample",
    "area_table",
    "case",
    "compare",
    "false_alarm",
    "measure",
    "sample",
    "within_area",
]
