"""Which of a file's properties may be shown: technical ones, never free text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

__all__ = ["objective_power", "safe_properties"]

#: property -> pattern that its whole value has to fit
_NUMBER = re.compile(r"[0-9.eE+-]{1,24}")
_MODEL = re.compile(r"[A-Za-z0-9 ._/+()-]{1,40}")
_SAFE: dict[str, re.Pattern[str]] = {
    "openslide.vendor": _MODEL,
    "openslide.objective-power": _NUMBER,
    "openslide.mpp-x": _NUMBER,
    "openslide.mpp-y": _NUMBER,
    "openslide.level-count": _NUMBER,
    "openslide.icc-size": _NUMBER,
    "openslide.bounds-x": _NUMBER,
    "openslide.bounds-y": _NUMBER,
    "openslide.bounds-width": _NUMBER,
    "openslide.bounds-height": _NUMBER,
    "openslide.level[0].tile-width": _NUMBER,
    "openslide.level[0].tile-height": _NUMBER,
    "aperio.AppMag": _NUMBER,
    "aperio.MPP": _NUMBER,
    "dicom.ManufacturerModelName": _MODEL,
    "hamamatsu.Product": _MODEL,
    "hamamatsu.SourceLens": _NUMBER,
    "hamamatsu.XOffsetFromSlideCentre": _NUMBER,
    "hamamatsu.YOffsetFromSlideCentre": _NUMBER,
    "leica.device-model": _MODEL,
    "leica.objective": _NUMBER,
    "philips.DICOM_MANUFACTURER": _MODEL,
    "tiff.Make": _MODEL,
    "tiff.Model": _MODEL,
    "trestle.Objective Power": _NUMBER,
    "ventana.Magnification": _NUMBER,
    "ventana.ScannerModel": _MODEL,
}


def safe_properties(properties: Mapping[str, str]) -> dict[str, str]:
    """Return the properties on the list whose value looks as it should."""
    return {
        name: properties[name]
        for name, pattern in _SAFE.items()
        if name in properties and pattern.fullmatch(properties[name])
    }


def objective_power(properties: Mapping[str, str]) -> float | None:
    """Return the objective's magnification, or None where it is not stated."""
    try:
        power = float(properties["openslide.objective-power"])
    except (KeyError, ValueError):
        return None
    return power if math.isfinite(power) and power > 0 else None
