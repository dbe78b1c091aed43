"""Pixel size: what the file says, what the user says, and which of the two holds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from her2path.errors import MppMissing, UsageError
from her2path.slide.ref import SlideRef

__all__ = ["MPP_RANGE", "check_ref", "choose_mpp", "ome_mpp", "property_mpp", "tag_mpp"]

#: µm per pixel that a slide can have; anything else is a mistake in the file
MPP_RANGE = (0.1, 2.0)
#: sides that differ by no more than this are taken as square
SQUARE_WITHIN = 0.01
_GIVE = "Give it with --mpp, in µm per pixel, such as --mpp 0.25"
_UNIT_UM = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4}

Pair = tuple[float, float]


def plausible(value: float) -> bool:
    """Tell whether a pixel size lies within `MPP_RANGE`."""
    return math.isfinite(value) and MPP_RANGE[0] <= value <= MPP_RANGE[1]


def check_ref(ref: SlideRef) -> None:
    """Refuse a ``--mpp`` outside the range, and ``--force-mpp`` without it.

    Raises
    ------
    UsageError
        In either case.
    """
    if ref.mpp is not None and not plausible(ref.mpp):
        raise UsageError(
            f"--mpp {ref.mpp:g} lies outside {MPP_RANGE[0]:g} to {MPP_RANGE[1]:g} µm per pixel",
            "Give the pixel size in µm, such as --mpp 0.25",
        )
    if ref.force_mpp and ref.mpp is None:
        raise UsageError("--force-mpp is given without --mpp", _GIVE)
    if ref.cache_mb < 1:
        raise UsageError(f"a tile cache of {ref.cache_mb} MiB is too small", "Give at least 1")


def choose_mpp(ref: SlideRef, found: Pair | None) -> tuple[Pair, list[str]]:
    """Choose between the file's pixel size and ``--mpp``.

    Parameters
    ----------
    ref : SlideRef
        ``ref.mpp`` holds where the file has none or an absurd one, and with ``force_mpp`` always.
    found : (float, float) or None
        The file's own (x, y), µm per pixel.

    Returns
    -------
    (float, float)
        Pixel size along x and y; equal where they differ by no more than 1 %.
    list of str
        Remarks for the report.

    Raises
    ------
    MppMissing
        When neither gives one.
    """
    sane = found is not None and all(plausible(v) for v in found)
    if ref.mpp is not None and (ref.force_mpp or not sane):
        notes = []
        if found is not None:
            notes = [f"The file's pixel size {_text(found)} was overridden by --mpp {ref.mpp:g}."]
        return (ref.mpp, ref.mpp), notes
    if found is None:
        raise MppMissing(f"{ref.path} does not state its pixel size (mpp)", _GIVE)
    if not sane:
        raise MppMissing(f"{ref.path} states an absurd pixel size, {_text(found)}", _GIVE)
    x, y = found
    if abs(x - y) <= SQUARE_WITHIN * min(x, y):
        x = y = x if x == y else (x + y) / 2
    notes = []
    if ref.mpp is not None and abs(ref.mpp - min(x, y)) > SQUARE_WITHIN * ref.mpp:
        notes = [
            f"The file's pixel size {_text(found)} was kept; --mpp {ref.mpp:g} differs and needs "
            "--force-mpp to win."
        ]
    return (x, y), notes


def property_mpp(properties: Mapping[str, str]) -> Pair | None:
    """Return the pixel size among OpenSlide's properties, or None."""
    try:
        x, y = (float(properties[f"openslide.mpp-{side}"]) for side in "xy")
    except (KeyError, ValueError):
        return None
    return x, y


def ome_mpp(description: str) -> Pair | None:
    """Return ``PhysicalSizeX`` and ``Y`` of the first image in OME-XML, µm, or None.

    The text is searched, not parsed: XML from outside may be built to swell without limit.
    """
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]{0,4000}>", description[:1_000_000])
    if pixels is None:
        return None
    sizes = []
    for side in "XY":
        size = re.search(rf'\bPhysicalSize{side}="([0-9.eE+-]{{1,40}})"', pixels.group())
        unit = re.search(rf'\bPhysicalSize{side}Unit="([^"]{{1,20}})"', pixels.group())
        scale = _UNIT_UM.get(unit.group(1) if unit else "µm")
        try:
            if size is None or scale is None or float(size.group(1)) <= 0:
                return None
            sizes.append(float(size.group(1)) * scale)
        except ValueError:
            return None
    return sizes[0], sizes[1]


def tag_mpp(x: Pair | None, y: Pair | None, unit: int) -> Pair | None:
    """Return the pixel size of TIFF resolution tags where it is one of microscopy, else None.

    Parameters
    ----------
    x, y : (float, float) or None
        XResolution and YResolution as numerator and denominator, pixels per unit.
    unit : int
        ResolutionUnit: 2 inch, 3 centimetre; others have no length.

    Notes
    -----
    72, 96 or 300 dots per inch are screen and print settings; they fall outside `MPP_RANGE`.
    """
    length_um = {2: 25400.0, 3: 10000.0}.get(unit)
    if length_um is None or x is None or y is None or 0 in (*x, *y):
        return None
    pair = length_um * x[1] / x[0], length_um * y[1] / y[0]
    return pair if all(plausible(v) for v in pair) else None


def _text(pair: Pair) -> str:
    return f"{pair[0]:.4g} µm" if pair[0] == pair[1] else f"{pair[0]:.4g} x {pair[1]:.4g} µm"
