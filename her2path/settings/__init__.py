"""The settings: one frozen tree, YAML in and out, units in every description."""

from __future__ import annotations

from her2path.settings.sections import (
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
    Section,
    SlideSettings,
    StainSettings,
    StreamSettings,
    TissueSettings,
    TumourSettings,
)
from her2path.settings.tree import Settings, load_settings, parse_set

__all__ = [
    "PATTERNS",
    "CnnSettings",
    "HeterogeneitySettings",
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
    "StainSettings",
    "StreamSettings",
    "TissueSettings",
    "TumourSettings",
    "load_settings",
    "parse_set",
]
