"""Time points in their order: dates in any usual spelling, numbers, or words.

The time points of one case are of one kind. What cannot be told (a date that can be read in two
ways, dates beside numbers, weeks beside months) is refused: the order decides which way a tumour
is said to have changed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from her2path.core._dates import DateError, Span, read_span
from her2path.core.errors import ManifestError, one_line
from her2path.core.numerals import Ambiguous, decimal_mark, readings, to_number

__all__ = ["by_name_alone", "time_groups"]

KINDS = "dates (2023-02-03), as numbers, or as words (cycle 2)"
#: units of time and treatment, and how they are also written
_UNITS = {
    "day": "d days tag tage", "week": "w wk wks weeks woche wochen",
    "month": "m mo mos mth months monat monate", "year": "y yr yrs years jahr jahre",
    "cycle": "c cyc cycles zyklus", "visit": "v visits visite", "time": "t tp timepoint",
}  # fmt: skip
_UNIT = {word: unit for unit, words in _UNITS.items() for word in (unit, *words.split())}
_DURATIONS = frozenset({"day", "week", "month", "year"})
#: what is counted from one on: a hyphen before the number is no minus
_COUNTED = frozenset({"cycle", "visit"})
_INTEGER, _DECIMAL = re.compile(r"\d+"), re.compile(r"\d+(?:[.,]\d+)?")
#: a sign: at the beginning or behind a blank, right before a digit
_MINUS = re.compile(r"(?:^|(?<=\s))[-\u2212](?=\d)")

Key = tuple[tuple[str, Fraction], ...]


@dataclass(frozen=True)
class _Word:
    """A word as text and numbers in turn: ``cycle 10 day 1`` is (cycle, day, "") and (10, 1)."""

    texts: tuple[str, ...]
    numbers: tuple[Fraction, ...]
    #: whether a hyphen stands before a number, which may be a minus
    hyphened: bool

    @property
    def key(self) -> Key:
        return tuple(zip(self.texts, (*self.numbers, Fraction(-1)), strict=True))


def time_groups(words: Iterable[str]) -> list[list[str]]:
    """Return the time points of one case, earliest first; equal ones stand together.

    Parameters
    ----------
    words : iterable of str
        As written.

    Returns
    -------
    list of list of str
        The spellings of each time point, in the order in which they were given.

    Raises
    ------
    ManifestError
        For kinds that are mixed, and for what can be read in two ways.
    """
    plain = {w: _plain(w) for w in dict.fromkeys(words)}
    try:
        spans = {w: read_span(p) for w, p in plain.items()}
    except DateError as exc:
        raise ManifestError(one_line(exc, 160), "Write dates as 2023-02-03") from exc
    dated = [w for w, s in spans.items() if s is not None]
    counted = [w for w, p in plain.items() if readings(p)]
    if len(counted) == len(plain):
        return _numbers(plain, {w: s for w, s in spans.items() if s is not None})
    if len(dated) == len(plain):
        return _dates({w: s for w, s in spans.items() if s is not None})
    if dated or counted:
        shown = ", ".join(repr(one_line(w, 40)) for w in list(plain)[:6])
        raise ManifestError(
            f"the time points {shown} are of different kinds", f"Give all as {KINDS}"
        )
    return _words(plain)


def by_name_alone(words: Iterable[str]) -> bool:
    """Tell whether only their letters order some time points: words without numbers."""
    plain = {_plain(w) for w in words}
    return len(plain) > 1 and sum(not any(c.isdigit() for c in p) for p in plain) > 1


def _plain(word: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", word).split())


def _grouped(keys: Mapping[str, Any]) -> list[list[str]]:
    groups: dict[Any, list[str]] = {}
    for word, key in keys.items():
        groups.setdefault(key, []).append(word)
    return [groups[key] for key in sorted(groups)]


def _dates(spans: Mapping[str, Span]) -> list[list[str]]:
    """Order dates; a month beside one of its own days cannot be ordered."""
    groups = _grouped(spans)
    for n, group in enumerate(groups[1:], 1):
        within = next((g[0] for g in groups[:n] if spans[group[0]][0] <= spans[g[0]][1]), None)
        if within is not None:
            raise ManifestError(
                f"the time points {within!r} and {group[0]!r} cannot be ordered: one holds the "
                "other", "Give both as days, as 2023-02-03",
            )  # fmt: skip
    return groups


def _numbers(plain: Mapping[str, str], spans: Mapping[str, Span]) -> list[list[str]]:
    mark = decimal_mark(plain.values())
    try:
        groups = _grouped({w: to_number(p, mark) for w, p in plain.items()})
    except Ambiguous as exc:
        raise ManifestError(f"the time point {exc}", "Write it without a mark between") from exc
    if len(spans) == len(plain) and _grouped(spans) != groups:
        shown = ", ".join(repr(w) for w in list(plain)[:2])
        raise ManifestError(
            f"the time points {shown} can be numbers or months, in another order",
            "Write months as 2023-02",
        )
    return groups


def _words(plain: Mapping[str, str]) -> list[list[str]]:
    words = {w: _word(p, _INTEGER) for w, p in plain.items()}
    _one_unit(words)
    _no_hidden_minus(words)
    groups = _grouped({w: v.key for w, v in words.items()})
    # 1.10 is the tenth part of one, or a tenth
    if groups != _grouped({w: _word(p, _DECIMAL).key for w, p in plain.items()}):
        shown = ", ".join(repr(one_line(w, 40)) for w in list(plain)[:4])
        raise ManifestError(
            f"the time points {shown} can be ordered in two ways", "Give whole numbers"
        )
    return groups


def _one_unit(words: Mapping[str, _Word]) -> None:
    numbered = {w: v for w, v in words.items() if v.numbers}
    units = {t for v in numbered.values() for t in v.texts if t in _DURATIONS}
    if len(units) > 1 and len({v.texts for v in numbered.values()}) > 1:
        shown = ", ".join(repr(one_line(w, 40)) for w in list(numbered)[:4])
        raise ManifestError(f"the time points {shown} are in different units", "Give one unit")


def _no_hidden_minus(words: Mapping[str, _Word]) -> None:
    first: dict[str, tuple[bool, str]] = {}
    for w, v in words.items():
        if not v.numbers or v.texts[0] in _COUNTED:
            continue
        hyphened, other = first.setdefault(v.texts[0], (v.hyphened, w))
        if hyphened != v.hyphened:
            raise ManifestError(
                f"the time points {one_line(other, 40)!r} and {one_line(w, 40)!r} do not tell "
                "whether the hyphen is a minus",
                "Write a minus behind a blank, as in day -7",
            )


def _word(text: str, pattern: re.Pattern[str]) -> _Word:
    """Take a word apart; capitals, blanks and spellings of units do not count."""
    low = text.casefold()
    negative = {m.end() for m in _MINUS.finditer(low)}
    texts: list[str] = []
    numbers: list[Fraction] = []
    end = 0
    for match in pattern.finditer(low):
        is_minus = match.start() in negative
        texts.append(low[end : match.start() - is_minus])
        numbers.append(Fraction(match[0].replace(",", ".")) * (-1 if is_minus else 1))
        end = match.end()
    texts.append(low[end:])
    hyphened = bool(numbers) and texts[0].rstrip().endswith("-")
    return _Word(_units(texts), tuple(numbers), hyphened)


def _units(texts: Sequence[str]) -> tuple[str, ...]:
    bare = (" ".join(re.sub(r"[\s_./,:#-]+", " ", t).split()) for t in texts)
    told = tuple(_UNIT.get(t, t) for t in bare)
    # 12 weeks is week 12
    return (told[1], "") if len(told) == 2 and not told[0] and told[1] in _UNITS else told
