"""What readers say of slides, kept so that nothing is lost and nobody sees another's by chance.

Each reader has a journal of his own, ``OUT/reads/<reader>.jsonl``, which only grows; what a reader
said is on the disk before the program's answer is shown. ``OUT/READS.csv`` is put together from all
journals and can be made again from them at any time.

A read of a slide goes through these states: ``unread``; ``given`` (the score is said, and the
program's is shown from now on); ``decided`` (kept or changed in view of it); ``signed`` (locked).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from her2path.core.errors import UsageError, one_line
from her2path.core.schema import PATTERNS
from her2path.io.reads import ISH, PROGRAM
from her2path.io.store import write_text
from her2path.io.store.journal import Journal, file_lock
from her2path.runs.cohort.manifest import safe_name
from her2path.runs.cohort.tables import csv_line
from her2path.runs.cohort.worklist import ORDERS, Item, shuffled

__all__ = ["READ_SCORES", "ReadLog", "Reading", "all_logs", "write_reads"]

#: what a reader may say; "" is a slide that cannot be read
READ_SCORES = ("0", "0/null", "0/ultralow", "0+", "1+", "2+", "3+", "")
State = Literal["unread", "given", "decided", "signed"]
COLUMNS = ("case_id", "slide_id", "reader", "read_no", "score", "score_before", "score_after",
           "time", "seconds", "signed_off", "comment",
           *(f"percent_{p}" for p in PATTERNS))  # fmt: skip
_MOST_SECONDS = 7 * 86_400.0
#: shares that are typed by hand may add up to this
_MOST_PERCENT = 101.0


@dataclass(frozen=True)
class Reading:
    """One reader's read of one slide.

    Attributes
    ----------
    key : (str, str)
        Case and slide.
    state : str
        See the module.
    before, after : str or None
        Score before and after the program's was seen; "" where the slide cannot be read.
    percent : dict
        Pattern to 0..100, where given.
    comment : str
    seconds : float
        How long the slide was looked at before the first score.
    time, decided_at, signed_at : str
        ISO 8601, UTC.
    draft : dict
        What was typed and not yet given.
    """

    key: tuple[str, str]
    state: State = "unread"
    before: str | None = None
    after: str | None = None
    percent: dict[str, float] = field(default_factory=dict)
    comment: str = ""
    seconds: float = 0.0
    time: str = ""
    decided_at: str = ""
    signed_at: str = ""
    draft: dict[str, Any] = field(default_factory=dict)

    @property
    def final(self) -> str | None:
        """The score as it stands."""
        return self.before if self.after is None else self.after


class ReadLog:
    """One reader's journal.

    Parameters
    ----------
    out : Path
        OUT.
    reader : str
        Name or initials.

    Raises
    ------
    UsageError
        For a name that cannot be used, or that is known in other capitals.
    """

    def __init__(self, out: Path, reader: str) -> None:
        self.reader = _name(reader)
        self.out = Path(out)
        self.journal = Journal(folder_of_reads(self.out) / _file_name(self.reader))
        self.round = 1
        self.items: tuple[tuple[str, str], ...] = ()
        self._seen: tuple[int, dict[tuple[str, str], Reading]] | None = None
        known = self._known_name()
        if known is not None and known != self.reader:
            raise UsageError(f"the reader {self.reader!r} is known as {known!r}",
                             f"Give --read {known!r}, or another name")  # fmt: skip

    def _known_name(self) -> str | None:
        names = [e.get("reader") for e in self.journal.entries() if e.get("event") == "begin"]
        return str(names[-1]) if names else None

    # -- the worklist ----------------------------------------------------------------------------

    def begin(
        self, items: Sequence[Item], order: str | None = None, again: bool = False
    ) -> list[Item]:
        """Return the worklist: the stored one gone on with, or a new one; new slides come last.

        Parameters
        ----------
        items : sequence of Item
            What can be read, in the given order.
        order : {"random", "given"}, optional
            Of a new worklist; random without.
        again : bool
            Read everything once more (``read_no`` rises by one), in a new order.

        Raises
        ------
        UsageError
            For another order than the stored one, or `again` before all is read.
        """
        if order is not None and order not in ORDERS:
            raise UsageError(f"there is no order {order!r}", f"Valid: {', '.join(ORDERS)}")
        with file_lock(self.journal.path.with_suffix(".lock")):
            last = self._last_begin()
            if last is not None and not again:
                return self._go_on(last, items, order)
            if last is not None:
                self._go_on(last, items, None)
                self._refuse_unfinished(items)
                self.round = int(last["round"]) + 1
            kind = order or (str(last["order"]) if last else "random")
            self._seen = None
            listed = self._ordered(items, kind)
            self._note_order(kind, listed)
        return listed

    def _go_on(self, last: dict[str, Any], items: Sequence[Item], order: str | None) -> list[Item]:
        kind, self.round, self._seen = str(last["order"]), int(last["round"]), None
        if order is not None and order != kind:
            raise UsageError(f"{self.reader} has begun in the {kind} order",
                             "Leave --order out; --again begins anew")  # fmt: skip
        place = {tuple(key): i for i, key in enumerate(last["items"])}
        old = sorted((i for i in items if i.key in place), key=lambda i: place[i.key])
        new = [i for i in items if i.key not in place]
        if not new:
            self.items = tuple(i.key for i in old)
            return old
        listed = old + self._ordered(new, kind)
        self._note_order(kind, listed)
        return listed

    def _ordered(self, items: Sequence[Item], kind: str) -> list[Item]:
        if kind == "given":
            return list(items)
        return shuffled(items, f"{self.reader.casefold()}\n{self.round}\n{len(items)}")

    def _note_order(self, kind: str, listed: Sequence[Item]) -> None:
        self.items = tuple(i.key for i in listed)
        self.journal.append({"event": "begin", "reader": self.reader, "round": self.round,
                             "order": kind, "items": [list(k) for k in self.items],
                             "time": _now()})  # fmt: skip

    def _last_begin(self) -> dict[str, Any] | None:
        begins = [e for e in self.journal.entries() if e.get("event") == "begin"]
        return begins[-1] if begins else None

    def _refuse_unfinished(self, items: Sequence[Item]) -> None:
        left = [i for i in items if self.reading(i.key).state == "unread"]
        if left:
            raise UsageError(f"{self.reader} has {len(left)} slides left to read",
                             "Read them first; --again then begins anew")  # fmt: skip

    # -- what is known ----------------------------------------------------------------------------

    def readings(self) -> dict[tuple[str, str], Reading]:
        """Return this round's reads by case and slide; what another window wrote is in it."""
        try:
            size = self.journal.path.stat().st_size
        except OSError:
            size = 0
        if self._seen is None or self._seen[0] != size:
            self._seen = size, _replay(self.journal.entries(), self.round)
        return self._seen[1]

    def reading(self, key: tuple[str, str]) -> Reading:
        """Return the read of one slide."""
        return self.readings().get(key, Reading(key))

    # -- what a reader says -----------------------------------------------------------------------

    def draft(self, key: tuple[str, str], said: dict[str, Any]) -> None:
        """Keep what is typed and not yet given."""
        if self.reading(key).state == "unread":
            self._say("draft", key, _said(said, needs_score=False))

    def give(self, key: tuple[str, str], said: dict[str, Any]) -> Reading:
        """Take the score that is given before the program's is seen.

        Raises
        ------
        UsageError
            For a score or share that cannot be, or where one was given before.
        """
        checked = _said(said, needs_score=True)
        with file_lock(self.journal.path.with_suffix(".lock")):
            if self.reading(key).state != "unread":
                raise UsageError("this slide was read before", "Reload the page")
            self._say("score", key, checked)
        write_reads(self.out)
        return self.reading(key)

    def decide(self, key: tuple[str, str], score: Any, comment: Any) -> Reading:
        """Keep or change the score in view of the program's; may be done again until signed.

        Raises
        ------
        UsageError
            Before a score was given, and after it was signed.
        """
        return self._later(key, "decide", {"score": _score(score), "comment": _comment(comment)})

    def sign(self, key: tuple[str, str]) -> Reading:
        """Lock the score; what was not decided stands as it was given.

        Raises
        ------
        UsageError
            As `decide`.
        """
        return self._later(key, "sign", {})

    def _later(self, key: tuple[str, str], event: str, more: dict[str, Any]) -> Reading:
        with file_lock(self.journal.path.with_suffix(".lock")):
            state = self.reading(key).state
            if state == "unread":
                raise UsageError("this slide was not read yet", "Give a score first")
            if state == "signed":
                raise UsageError("this read is signed off: it cannot be changed", "")
            self._say(event, key, more)
        write_reads(self.out)
        return self.reading(key)

    def _say(self, event: str, key: tuple[str, str], more: dict[str, Any]) -> None:
        self.journal.append({"event": event, "round": self.round, "case_id": key[0],
                             "slide_id": key[1], "time": _now(), **more})  # fmt: skip


# -- journals to reads ----------------------------------------------------------------------------


def _replay(entries: Iterable[dict[str, Any]], number: int) -> dict[tuple[str, str], Reading]:
    found: dict[tuple[str, str], Reading] = {}
    for e in entries:
        if e.get("event") == "begin" or e.get("round") != number:
            continue
        key = (str(e.get("case_id")), str(e.get("slide_id")))
        found[key] = _after(found.get(key, Reading(key)), e)
    return found


def _after(r: Reading, e: dict[str, Any]) -> Reading:
    """Return a read after one more entry; an entry that comes too late changes nothing."""
    event, time = e.get("event"), str(e.get("time", ""))
    if event == "draft" and r.state == "unread":
        return replace(r, draft={k: e[k] for k in ("score", "percent", "comment", "seconds")
                                 if k in e}, seconds=float(e.get("seconds", 0)))  # fmt: skip
    if event == "score" and r.state == "unread":
        return replace(r, state="given", before=e["score"], percent=dict(e.get("percent") or {}),
                       comment=str(e.get("comment", "")), time=time,
                       seconds=float(e.get("seconds", 0)))  # fmt: skip
    if r.state in ("unread", "signed"):
        return r
    if event == "decide":
        return replace(r, state="decided", after=e["score"], decided_at=time,
                       comment=str(e.get("comment") or r.comment))  # fmt: skip
    if event == "sign":
        return replace(r, state="signed", signed_at=time, after=r.final)
    return r


def all_logs(out: Path) -> list[tuple[str, int, list[Reading]]]:
    """Return every reader's reads: name, ``read_no``, reads in the order of the worklist."""
    found = []
    for path in sorted(folder_of_reads(out).glob("*.jsonl")):
        entries = Journal(path).entries()
        begins = [e for e in entries if e.get("event") == "begin"]
        for number in sorted({int(e["round"]) for e in begins}):
            last = [e for e in begins if e["round"] == number][-1]
            place = {(str(k[0]), str(k[1])): i for i, k in enumerate(last["items"])}
            reads = _replay(entries, number)
            order = sorted(reads.values(), key=lambda r: (place.get(r.key, len(place)), r.key))
            found.append((str(last["reader"]), number, order))
    return sorted(found, key=lambda f: (f[0].casefold(), f[1]))


def write_reads(out: Path) -> Path:
    """Put ``OUT/READS.csv`` together from every journal; return its path.

    ``score`` is what was said before the program's was seen: agreement is that of independent
    reads.

    Raises
    ------
    OutputError, DiskFull
    """
    path = Path(out) / "READS.csv"
    with file_lock(folder_of_reads(Path(out)) / "READS.lock"):
        lines = [csv_line(COLUMNS)]
        for reader, number, reads in all_logs(Path(out)):
            lines += [csv_line(_row(r, reader, number)) for r in reads if r.state != "unread"]
        write_text(path, "".join(lines))
    return path


def _row(r: Reading, reader: str, number: int) -> list[Any]:
    known = {
        "case_id": r.key[0], "slide_id": r.key[1], "reader": reader, "read_no": number,
        "score": r.before, "score_before": r.before, "score_after": r.after, "time": r.time,
        "seconds": round(r.seconds, 1), "signed_off": r.signed_at, "comment": r.comment,
        **{f"percent_{p}": v for p, v in r.percent.items()},
    }  # fmt: skip
    return [known.get(c) for c in COLUMNS]


def folder_of_reads(out: Path) -> Path:
    """Return ``OUT/reads``."""
    return Path(out) / "reads"


# -- what can be said -----------------------------------------------------------------------------


def _name(reader: str) -> str:
    name = one_line(reader.strip(), 100)
    if not name:
        raise UsageError("a reader needs a name", "Give --read NAME, your name or initials")
    if name.casefold() in (PROGRAM, ISH):
        raise UsageError(f"{name!r} stands for something else among the readers",
                         "Give --read another name")  # fmt: skip
    return name


def _file_name(reader: str) -> str:
    """Return the journal's name: the same in any capitals, apart for any two readers."""
    plain = reader.casefold()
    digest = hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe_name(plain)[:60]}-{digest}.jsonl"


def _said(said: dict[str, Any], needs_score: bool) -> dict[str, Any]:
    given = said.get("score")
    score = None if given is None and not needs_score else _score(given)
    return {
        "score": score,
        "percent": _percent(said.get("percent")),
        "comment": _comment(said.get("comment")),
        "seconds": _seconds(said.get("seconds")),
    }


def _score(value: Any) -> str:
    if value not in READ_SCORES:
        raise UsageError("no score was chosen", f"Valid: {', '.join(s for s in READ_SCORES if s)}")
    return str(value)


def _comment(value: Any) -> str:
    return one_line(value, 1000) if isinstance(value, str) else ""


def _seconds(value: Any) -> float:
    number = isinstance(value, (int, float)) and math.isfinite(value)
    return round(min(max(0.0, float(value)), _MOST_SECONDS), 1) if number else 0.0


def _percent(given: Any) -> dict[str, float]:
    if not given:
        return {}
    if not isinstance(given, dict) or not set(given) <= set(PATTERNS):
        raise UsageError("a share is of no pattern", f"Valid: {', '.join(PATTERNS)}")
    shares = {p: given[p] for p in PATTERNS if given.get(p) is not None}
    if not all(isinstance(v, (int, float)) and 0 <= v <= 100 for v in shares.values()):
        raise UsageError("a share is not from 0 to 100 %", "Correct it")
    total = sum(shares.values())
    if total > _MOST_PERCENT:
        raise UsageError(f"the shares add up to {total:.0f} %", "Correct them")
    return {p: float(v) for p, v in shares.items()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
