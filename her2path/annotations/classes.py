"""What the class of an annotated area means: tumour, left out, or neither."""

from __future__ import annotations

import re
import unicodedata

from her2path.csvfile import tidy
from her2path.settings import TumourSettings

__all__ = ["hidden_class", "meaning", "role_of"]

#: on-slide controls of known level or receptor number
_CONTROL = re.compile(r"control (0|[123]\+|[0-9][0-9.,e+]* receptors?)")
#: whatever else is called a control is no tumour either
_ANY_CONTROL = re.compile(r"\bcontrols?\b")


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
