"""Heterogeneity of HER2: areas and verdicts, shares, pattern, diversity, bystanders, biopsies."""

from __future__ import annotations

from her2path.alarms import false_alarm, within_area
from her2path.heterogeneity.areas import AreaTable, area_table
from her2path.heterogeneity.cases import case, compare
from her2path.heterogeneity.measure import measure
from her2path.heterogeneity.samples import Sample, sample
from her2path.heterogeneity.verdicts import with_ish
from her2path.intervals import AreaRules

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
    "with_ish",
    "within_area",
]
