"""Dates as people write them, each as the span of time that it names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import date, datetime, time, timedelta

__all__ = ["DateError", "Span", "read_span"]

#: first and last moment of a year, month, day or minute
Span = tuple[datetime, datetime]
_MOMENT = timedelta(microseconds=1)

_MONTHS = (
    "january januar jan janv janvier enero ene gennaio gen januari janeiro",
    "february februar feb fev fevr fevrier febrero febbraio februari fevereiro",
    "march marz maerz mar mrz mars marzo maart mrt marco",
    "april apr avr avril abril abr aprile",
    "may mai mayo maggio mag mei maio",
    "june juni jun juin junio giugno giu junho",
    "july juli jul juil juillet julio luglio lug julho",
    "august aug aout agosto ago augustus",
    "september sept sep septembre septiembre settembre set setembro",
    "october oktober oct okt octobre octubre ottobre ott outubro out",
    "november nov novembre noviembre novembro",
    "december dezember dec dez decembre diciembre dic dicembre dezembro",
)
_MONTH = {word: n for n, words in enumerate(_MONTHS, 1) for word in words.split()}
#: those that mean nothing else
_SURE = frozenset(_MONTH) - {"gen", "ago", "set", "out", "mar", "mag", "mars", "may"}
_NAME = r"(?P<name>[a-z]{3,11})\.?"
_GAP = r"(?:[\s.,/'-]|(?<![a-z])de(?![a-z]))*"
_YEAR = r"(?P<y>(?:19|20)\d\d)"
_DAY = r"(?P<d>\d{1,2})(?:st|nd|rd|th|\.)?"
_CLOCK = re.compile(
    r"[t ,]+(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,]\d+)?)? ?(am|pm)? ?(z|utc|[+-]\d\d:?\d\d)?$"
)
_ANYWHERE = re.compile(r"(?<!\d)\d{1,4}([./-])\d{1,2}\1\d{1,4}(?!\d)")
_NO_YEAR = re.compile(r"\d{1,2} ?[/-] ?\d{1,2}|\d{1,2}\. ?\d{1,2}\.|0\d[.,]\d{1,2}")


class DateError(ValueError):
    """What looks like a date, and is none, or can be read in two ways."""


def read_span(text: str) -> Span | None:
    """Return the span of time that a date names; None where the text is no date.

    Dates in figures with slashes, dashes or blanks are read only where day and month cannot be
    exchanged; with points the day comes first, as everywhere where points are used.

    Parameters
    ----------
    text : str
        One line, without outer spaces.

    Raises
    ------
    DateError
        For a date that can be read in two ways, is in no calendar, or lacks its year.
    """
    low = _plain(text)
    clock = _CLOCK.search(low)
    day = low[: clock.start()] if clock is not None else low
    for pattern, reader in _FORMS:
        match = pattern.fullmatch(day)
        span = reader(match.groupdict(), text) if match is not None else None
        if span is not None:
            return span if clock is None else _at(span, clock, text)
    _refuse_the_rest(low, text)
    return None


def _plain(text: str) -> str:
    low = unicodedata.normalize("NFD", text.casefold())
    return "".join(c for c in low if not unicodedata.combining(c)).replace("\u2013", "-")


def _refuse_the_rest(low: str, text: str) -> None:
    """Find what is meant as a date and was not understood: as a word it would be misplaced."""
    words = set(re.findall(r"[a-z]+", low))
    if _NO_YEAR.fullmatch(low) or low.strip(". ") in _SURE:
        raise DateError(f"the time point {text!r} may be a date without its year")
    named = bool(words & _SURE) and any(c.isdigit() for c in low)
    if named or _ANYWHERE.search(low):
        raise DateError(f"the time point {text!r} holds a date that cannot be read")


def _dates(text: str, *orders: tuple[int, int, int]) -> Span:
    """Return the one day that (year, month, day) in several orders can be."""
    found = set()
    for y, m, d in orders:
        try:
            found.add(date(y, m, d))
        except ValueError:
            continue
    if not found:
        raise DateError(f"the time point {text!r} is no day of the calendar")
    if len(found) > 1:
        shown = " or ".join(str(day) for day in sorted(found))
        raise DateError(f"the time point {text!r} can be read as {shown}")
    return _days(found.pop(), 1)


def _days(first: date, n: int) -> Span:
    start = datetime.combine(first, time())
    return start, start + timedelta(days=n) - _MOMENT


def _until(first: date, following: date) -> Span:
    return _days(first, (following - first).days)


def _year4(text: str) -> int:
    """Return a year of four digits; one of two as 1970 to 2069, as POSIX has it."""
    year = int(text)
    return year if len(text) == 4 else year + (2000 if year < 70 else 1900)


def _year_first(g: dict[str, str], text: str) -> Span | None:
    return _dates(text, (int(g["y"]), int(g["m"]), int(g["d"])))


def _day_or_month_first(g: dict[str, str], text: str) -> Span | None:
    a, b, y = int(g["a"]), int(g["b"]), _year4(g["c"])
    if g["sep"].strip() == ".":
        return _dates(text, (y, b, a))
    orders = [(y, b, a), (y, a, b)]
    if len(g["c"]) == 2:
        orders.append((_year4(f"{a:02d}"), b, int(g["c"])))
    return _dates(text, *orders)


def _named(g: dict[str, str], text: str) -> Span | None:
    month = _MONTH.get(g["name"])
    if month is None:
        return None
    if g.get("d") is not None:
        return _dates(text, (_year4(g["y"]), month, int(g["d"])))
    return _month(int(g["y"]), month)


def _month(year: int, month: int) -> Span | None:
    if not 1 <= month <= 12:
        return None
    return _until(date(year, month, 1), date(year + month // 12, month % 12 + 1, 1))


def _month_of_year(g: dict[str, str], text: str) -> Span | None:
    del text
    return _month(int(g["y"]), int(g["m"]))


def _year(g: dict[str, str], text: str) -> Span | None:
    del text
    return _until(date(int(g["y"]), 1, 1), date(int(g["y"]) + 1, 1, 1))


def _quarter(g: dict[str, str], text: str) -> Span | None:
    del text
    year, first = int(g["y"]), 3 * int(g["q"]) - 2
    return _until(date(year, first, 1), date(year + first // 10, (first + 2) % 12 + 1, 1))


def _week(g: dict[str, str], text: str) -> Span | None:
    try:
        first = date.fromisocalendar(int(g["y"]), int(g["w"]), int(g.get("d") or 1))
    except ValueError as exc:
        raise DateError(f"the time point {text!r} is no week of the calendar") from exc
    return _days(first, 1 if g.get("d") else 7)


def _day_of_year(g: dict[str, str], text: str) -> Span | None:
    first = date(int(g["y"]), 1, 1) + timedelta(days=int(g["n"]) - 1)
    if int(g["n"]) < 1 or first.year != int(g["y"]):
        raise DateError(f"the time point {text!r} is no day of the calendar")
    return _days(first, 1)


def _at(span: Span, clock: re.Match[str], text: str) -> Span:
    """Return the moment of a day; midnight is what spreadsheets add to a day without a time."""
    hour, minute, second = (int(g or 0) for g in clock.groups()[:3])
    if clock[4] is not None:
        hour = hour % 12 + (12 if clock[4] == "pm" else 0)
    if hour > 23 or minute > 59 or second > 59:
        raise DateError(f"the time point {text!r} is no time of day")
    since = timedelta(hours=hour, minutes=minute, seconds=second)
    if not since:
        return span
    zone = clock[5] or "z"
    if zone[0] in "+-":
        away = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
        since -= away if zone[0] == "+" else -away
    return span[0] + since, span[0] + since


_Reader = Callable[[dict[str, str], str], Span | None]
_FORMS: tuple[tuple[re.Pattern[str], _Reader], ...] = tuple(
    (re.compile(pattern), reader)
    for pattern, reader in (
        (r"(?P<y>\d{4}) ?([-/. ]) ?(?P<m>\d{1,2}) ?\2 ?(?P<d>\d{1,2})\.?", _year_first),
        (r"(?P<y>(?:19|20)\d\d)(?P<m>0[1-9]|1[0-2])(?P<d>0[1-9]|[12]\d|3[01])", _year_first),
        (
            r"(?P<a>\d{1,2})(?P<sep>[-/. ]|\. ) ?(?P<b>\d{1,2})(?P=sep) ?(?P<c>\d{4}|\d\d)\.?",
            _day_or_month_first,
        ),
        (rf"{_DAY}{_GAP}{_NAME}{_GAP}(?P<y>\d{{4}}|\d\d)", _named),
        (rf"{_NAME}{_GAP}{_DAY}[\s,.]+(?P<y>\d{{4}})", _named),
        (rf"{_YEAR}{_GAP}{_NAME}{_GAP}{_DAY}", _named),
        (rf"{_NAME}{_GAP}{_YEAR}", _named),
        (rf"{_YEAR}{_GAP}{_NAME}", _named),
        (rf"{_YEAR} ?[-/.] ?(?P<m>\d{{1,2}})", _month_of_year),
        (rf"(?P<m>\d{{1,2}}) ?[-/.] ?{_YEAR}", _month_of_year),
        (_YEAR, _year),
        (rf"{_YEAR}[-/ ]?q(?P<q>[1-4])", _quarter),
        (rf"q(?P<q>[1-4])[-/ ]*{_YEAR}", _quarter),
        (rf"{_YEAR}[-/ ]?(?:w|kw|cw)(?P<w>\d{{1,2}})(?:-?(?P<d>[1-7]))?", _week),
        (rf"(?:w|kw|cw|week|woche) ?(?P<w>\d{{1,2}})[-/, ]+{_YEAR}", _week),
        (rf"{_YEAR}-(?P<n>\d{{3}})", _day_of_year),
    )
)
