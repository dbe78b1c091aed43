"""Heterogeneity of HER2: areas and verdicts, shares, pattern, diversity, bystanders, biopsies."""

from __future__ import annotations

from her2path.core.intervals import AreaRules
from her2path.scoring.false_alarms import false_alarm, within_area
from her2path.space.heterogeneity.areas import AreaTable, area_table
from her2path.space.heterogeneity.cases import case, compare
from her2path.space.heterogeneity.measure import measure
from her2path.space.heterogeneity.samples import Sample, sample
from her2path.space.heterogeneity.verdicts import with_ish

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
