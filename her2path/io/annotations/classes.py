"""What the class of an annotated area means: tumour, left out, or neither."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from her2path.core.csvfile import tidy
from her2path.core.numerals import readings
from her2path.core.settings import TumourSettings

__all__ = ["Stated", "control_of", "hidden_class", "meaning", "receptors_of", "role_of"]

#: on-slide controls of known level or receptor number
_CONTROL = re.compile(r"control (?:(0|[123]\+)|([0-9][0-9.,e+ ]*) receptors?)")
#: whatever else is called a control is no tumour either
_ANY_CONTROL = re.compile(r"\bcontrols?\b")


@dataclass(frozen=True)
class Stated:
    """What the class of an on-slide control says: a level 0..3, or receptors a cell."""

    level: int | None = None
    receptors: float | None = None


def control_of(classification: str) -> Stated | None:
    """Return what an on-slide control states; None for any other class.

    Raises
    ------
    ValueError
        For a number of receptors that is none, or not above 0.
    """
    told = _CONTROL.fullmatch(_plain(classification))
    if told is None:
        return None
    if told[1] is not None:
        return Stated(level=int(told[1][0]))
    return Stated(receptors=receptors_of(told[2]))


def receptors_of(text: str) -> float:
    """Return a number of receptors a cell as people write it: 64386, 64,386 or 6.4e4.

    Receptors are counted: of two readings the whole one, else the larger, is meant.

    Raises
    ------
    ValueError
        Where it is no number above 0.
    """
    values = set(readings(text).values())
    whole = {v for v in values if v.denominator == 1}
    found = max(whole or values, default=0)
    if found <= 0:
        raise ValueError(f"{text!r} is not a number of receptors above 0")
    return float(found)


def _plain(words: str) -> str:
    """Return a class in one spelling: capitals, ``_``, ``-`` and QuPath's final ``*`` apart."""
    text = unicodedata.normalize("NFKC", tidy(words)).casefold()
    return re.sub(r"[\s_-]+", " ", text).strip(" *")


def meaning(classification: str, settings: TumourSettings) -> str | None:
    """Return "tumour" or "excluded" for a class that is known, None for any other.

    A derived class ("Tumor: Positive") that is on neither list counts as what it is derived from.
    """
    whole = _plain(classification)
    tumour = {_plain(c) for c in settings.classes}
    excluded = {_plain(c) for c in settings.exclude}
    base = whole
    while whole:
        if base in excluded:
            return "excluded"
        if base in tumour:
            return "tumour"
        if ":" not in base:
            break
        base = base.rsplit(":", 1)[0].strip(" *")
    return "excluded" if _ANY_CONTROL.search(whole) else None


def role_of(classification: str, settings: TumourSettings) -> str:
    """Tell what a class makes of an area: "tumour", "excluded" or "other".

    An area without a class is tumour: whoever draws one outline and names nothing means that.
    """
    if not _plain(classification):
        return "tumour"
    return meaning(classification, settings) or "other"


def hidden_class(classification: str, role: str) -> str | None:
    """Return a class without anything that its author may have written into it.

    Words of the shipped lists and of on-slide controls stay; None for a class of which nothing
    does.
    """
    known = TumourSettings()
    whole = _plain(classification)
    if not whole:
        return ""
    if _CONTROL.fullmatch(whole):
        return whole
    listed = {_plain(c) for c in (*known.classes, *known.exclude)}
    base = whole
    while base:
        if base in listed and meaning(base, known) == role:
            return base
        base = base.rpartition(":")[0].strip(" *")
    if role == "excluded":
        return "control" if _ANY_CONTROL.search(whole) else "ignore*"
    return "tumor" if role == "tumour" else None
