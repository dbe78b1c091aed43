"""Numbers as people write them: decimal point or comma, thousands grouped or not.

``1.000`` is one, or a thousand: it depends on who wrote it. What can be read in two ways is decided
by the table's other numbers, or by the limits of the column, and refused otherwise.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from fractions import Fraction

__all__ = ["Ambiguous", "decimal_mark", "readings", "to_number", "to_whole"]

MARKS = (".", ",")
#: what stands between groups of thousands beside the other mark: spaces and apostrophes
_GAPS = " '\u2019"
_PATTERNS = {
    mark: re.compile(
        rf"([+-]?)(?:(\d{{1,40}})|([1-9]\d{{0,2}}(?:([{re.escape(group + _GAPS)}])\d{{3}})"
        rf"(?:\4\d{{3}})*))(?:{re.escape(mark)}(\d{{0,80}}))?(?:[eE]([+-]?\d{{1,2}}))?"
    )
    for mark, group in zip(MARKS, reversed(MARKS), strict=True)
}


class Ambiguous(ValueError):
    """A number that can be read in two ways."""

    def __init__(self, text: str, values: Iterable[Fraction]) -> None:
        small, *_, large = sorted(values)
        super().__init__(f"{text!r} can be read as {_plain(small)} or as {_plain(large)}")


def _plain(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.12g}"


def readings(text: str) -> dict[str, Fraction]:
    """Return what a written number may mean, by the decimal mark (``.``, ``,``) it would have.

    Empty where it is no number.
    """
    # compatibility forms: digits of full width, no-break spaces
    plain = unicodedata.normalize("NFKC", text).strip().replace("\u2212", "-")
    found = {}
    for mark, pattern in _PATTERNS.items():
        match = pattern.fullmatch(plain) if plain.isascii() or "\u2019" in plain else None
        if match is None:
            continue
        sign, bare, grouped, _, decimals, exponent = match.groups()
        if grouped and exponent:
            continue
        whole = bare or "".join(c for c in grouped if c.isdigit())
        value = Fraction(f"{sign}{whole}.{decimals or '0'}")
        found[mark] = value * Fraction(10) ** int(exponent or 0)
    return found


def decimal_mark(texts: Iterable[str]) -> str | None:
    """Return the mark of those numbers that can be read in one way only; None if they differ."""
    marks: set[str] = set()
    for text in texts:
        if "." in text or "," in text:
            found = readings(text)
            if len(found) == 1:
                marks |= found.keys()
        if len(marks) > 1:
            return None
    return marks.pop() if marks else None


def to_number(
    text: str, mark: str | None = None, least: float | None = None, most: float | None = None
) -> Fraction:
    """Read a number, with decimals or without.

    Parameters
    ----------
    text : str
    mark : {".", ","}, optional
        The decimal mark of the table, where it is known.
    least, most : float, optional
        What is possible: of two readings the one inside is meant.

    Raises
    ------
    Ambiguous
        Where it can be read in two ways.
    ValueError
        Where it is no number.
    """
    found = readings(text)
    if not found:
        raise ValueError(f"{text!r} is not a number")
    if mark in found:
        found = {mark: found[mark]}
    values = set(found.values())
    inside = {v for v in values if (least is None or v >= least) and (most is None or v <= most)}
    if len(values) > 1 and len(inside) != 1:
        raise Ambiguous(text, values)
    return (inside or values).pop()


def to_whole(text: str, mark: str | None = None) -> int:
    """Read a count.

    A count has no decimals: ``1.000`` is a thousand where ``mark`` is the comma, and refused
    otherwise. ``3.0`` is 3.

    Raises
    ------
    Ambiguous
        Where it can be read in two ways.
    ValueError
        Where it is no whole number.
    """
    if text.isascii() and text.isdigit() and len(text) <= 40:
        return int(text)
    found = readings(text)
    values = set(found.values())
    if len(values) == 2 and (mark is None or abs(found[mark]) < max(abs(v) for v in values)):
        raise Ambiguous(text, values)
    value = found[mark] if mark is not None and mark in found else next(iter(values), None)
    if value is None or value.denominator != 1:
        raise ValueError(f"{text!r} is not a whole number")
    return int(value)
