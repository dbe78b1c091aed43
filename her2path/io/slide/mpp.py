"""Pixel size: what the file says, what the user says, and which of the two holds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from html import unescape

from her2path.core.errors import MppMissing, UsageError
from her2path.core.flags import flag
from her2path.core.results import QcFlag
from her2path.io.slide.ref import SlideRef

__all__ = [
    "MPP_RANGE", "aperio_mpp", "check_ref", "choose_mpp", "imagej_mpp", "length_um", "ome_mpp",
    "property_mpp", "tag_mpp",
]  # fmt: skip

#: µm per pixel that a slide can have; anything else is a mistake in the file
MPP_RANGE = (0.1, 2.0)
#: sides that differ by no more than this are taken as square
SQUARE_WITHIN = 0.01
_GIVE = "Give it with --mpp, in µm per pixel, such as --mpp 0.25"
#: length units by every usual spelling (both micro signs become u, case does not count), in µm
_UNIT_UM = {
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("um", "u", "micron", "micrometer", "micrometre", "mikrometer"), 1.0),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e4),
    **dict.fromkeys(("dm", "decimeter", "decimetre"), 1e5),
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
    **dict.fromkeys(("km", "kilometer", "kilometre"), 1e9),
    **dict.fromkeys(("in", "inch", "inche", '"'), 25400.0),
    **dict.fromkeys(("thou", "mil"), 25.4),
    **dict.fromkeys(("pt", "point"), 25400.0 / 72),
    **dict.fromkeys(("fm", "femtometer", "femtometre"), 1e-9),
    **dict.fromkeys(("pm", "picometer", "picometre"), 1e-6),
    **dict.fromkeys(("å", "angstrom", "ångström"), 1e-4),
}

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


def choose_mpp(ref: SlideRef, found: Pair | None) -> tuple[Pair, list[QcFlag]]:
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
    list of QcFlag
        What a reader should know: ``MPP_OVERRIDDEN``, ``MPP_NOT_USED`` or ``ANISOTROPIC_MPP``.

    Raises
    ------
    MppMissing
        When neither gives one.
    """
    sane = found is not None and all(plausible(v) for v in found)
    if ref.mpp is not None and (ref.force_mpp or not sane):
        return (ref.mpp, ref.mpp), [flag("MPP_OVERRIDDEN", _given(ref.mpp, found))]
    if found is None:
        raise MppMissing(f"{ref.path} does not state its pixel size (mpp)", _GIVE)
    if not sane:
        raise MppMissing(f"{ref.path} states an absurd pixel size, {_text(found)}", _GIVE)
    x, y = found
    if abs(x - y) <= SQUARE_WITHIN * min(x, y):
        x = y = x if x == y else (x + y) / 2
    flags = []
    if ref.mpp is not None and max(abs(ref.mpp - x), abs(ref.mpp - y)) > SQUARE_WITHIN * ref.mpp:
        flags.append(flag(
            "MPP_NOT_USED",
            f"The file's {_text(found)} was kept; --mpp {ref.mpp:g} needs --force-mpp to win.",
        ))  # fmt: skip
    if x != y:
        squares = f"From {x:.4g} x {y:.4g} µm to squares of {min(x, y):.4g} µm."
        flags.append(flag("ANISOTROPIC_MPP", squares))
    return (x, y), flags


def _given(mpp: float, found: Pair | None) -> str:
    if found is None:
        return f"--mpp {mpp:g}; the file states none."
    return f"The file's {_text(found)} was overridden by --mpp {mpp:g}."


def property_mpp(properties: Mapping[str, str]) -> Pair | None:
    """Return the pixel size among OpenSlide's properties, or None."""
    try:
        x, y = (float(properties[f"openslide.mpp-{side}"]) for side in "xy")
    except (KeyError, ValueError):
        return None
    return x, y


def length_um(unit: str) -> float | None:
    """Return a unit of length in µm, or None for what is none (pixels, an unknown word).

    Taken as written by OME, ImageJ and others: ``µm`` with either micro sign, also escaped
    (``&#181;m``, or ImageJ's backslash form) or in a wrong encoding, ``um``, ``micron(s)``,
    ``micrometer``, ``inch`` and so on.
    """
    word = unescape(unit).strip()
    word = re.sub(r"\\u00b5|\\u03bc", "u", word, flags=re.IGNORECASE)
    word = word.replace("Â", "").replace("\u00b5", "u").replace("\u03bc", "u").replace("Î¼", "u")
    word = word.casefold().rstrip(".")
    return _UNIT_UM.get(word, _UNIT_UM.get(word.removesuffix("s")))


def ome_mpp(description: str) -> Pair | None:
    """Return ``PhysicalSizeX`` and ``Y`` of the first image in OME-XML, µm, or None.

    The text is searched, not parsed: XML from outside may be built to swell without limit.
    """
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]{0,4000}>", description[:1_000_000])
    if pixels is None:
        return None
    sizes = []
    for side in "XY":
        size = _attribute(pixels.group(), f"PhysicalSize{side}")
        unit = _attribute(pixels.group(), f"PhysicalSize{side}Unit")
        scale = length_um("µm" if unit is None else unit)
        try:
            number = float(size.replace(",", ".")) if size else 0.0
            if scale is None or number <= 0:
                return None
            sizes.append(number * scale)
        except ValueError:
            return None
    return sizes[0], sizes[1]


def _attribute(tag: str, name: str) -> str | None:
    """Return an attribute of an XML tag, in quotes of either kind."""
    found = re.search(rf"""\b{name}\s*=\s*(?:"([^"]{{1,40}})"|'([^']{{1,40}})')""", tag)
    return None if found is None else unescape(found.group(1) or found.group(2))


def aperio_mpp(description: str) -> Pair | None:
    """Return the pixel size that an Aperio description states, µm, or None."""
    found = re.search(r"\|\s*MPP\s*=\s*([0-9.,eE+-]{1,24})", description[:100_000],
                      re.IGNORECASE)  # fmt: skip
    try:
        size = float(found.group(1).rstrip(",").replace(",", ".")) if found else None
    except ValueError:
        return None
    return None if size is None else (size, size)


def imagej_mpp(description: str, x: Pair | None, y: Pair | None) -> Pair | None:
    """Return the pixel size of ImageJ's resolution tags in the unit that its description names.

    Parameters
    ----------
    description : str
        ``ImageJ=...`` with a line ``unit=...``.
    x, y : (float, float) or None
        XResolution and YResolution as numerator and denominator, pixels per unit.
    """
    found = re.search(r"(?m)^unit=(.{1,40})$", description[:100_000])
    scale = length_um(found.group(1)) if found else None
    if scale is None or x is None or y is None or 0 in (*x, *y):
        return None
    pair = scale * x[1] / x[0], scale * y[1] / y[0]
    return pair if all(plausible(v) for v in pair) else None


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
