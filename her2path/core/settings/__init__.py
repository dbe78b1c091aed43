"""The settings: one frozen tree, YAML in and out, units in every description."""

from __future__ import annotations

from her2path.core.settings.assay import ASSAY_PARTS, Assay, Calibration, Curve, Interval, Source
from her2path.core.settings.base import Section
from her2path.core.settings.sections import (
    PATTERNS,
    CnnSettings,
    HeterogeneitySettings,
    IshSettings,
    MembraneSettings,
    NucleiSettings,
    Pattern,
    QcSettings,
    RegionSettings,
    ScoreSettings,
    SlideSettings,
    StainSettings,
    StreamSettings,
    TissueSettings,
    TumourSettings,
)
from her2path.core.settings.tree import Settings, load_settings, parse_set, read_tree

__all__ = [
    "ASSAY_PARTS",
    "PATTERNS",
    "Assay",
    "Calibration",
    "CnnSettings",
    "Curve",
    "HeterogeneitySettings",
    "Interval",
    "IshSettings",
    "MembraneSettings",
    "NucleiSettings",
    "Pattern",
    "QcSettings",
    "RegionSettings",
    "ScoreSettings",
    "Section",
    "Settings",
    "SlideSettings",
    "Source",
    "StainSettings",
    "StreamSettings",
    "TissueSettings",
    "TumourSettings",
    "load_settings",
    "parse_set",
    "read_tree",
]
