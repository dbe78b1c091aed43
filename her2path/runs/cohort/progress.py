"""How a batch stands: counts, rate and time left, for a terminal or a log file."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from her2path.core.errors import one_line
from her2path.io.store import disk_errors

__all__ = ["BatchProgress", "Log", "Slot"]

#: seconds between two summary lines of the log
SUMMARY_S = 60.0


@dataclass
class Slot:
    """What one child is at."""

    name: str
    stage: str = "starting"
    done: int = 0
    total: int = 1
    megapixels: float = 0.0
    since: float = field(default_factory=time.monotonic)


class BatchProgress:
    """The standing of a batch.

    Parameters
    ----------
    changed : callable, optional
        Called after every change, in the thread of the batch.
    """

    def __init__(self, changed: Callable[[BatchProgress], None] | None = None) -> None:
        self.changed = changed
        self.what = "slides"
        self.total = self.done = self.failed = self.not_evaluable = self.kept = 0
        self.slots: dict[int, Slot] = {}
        self.begun = time.monotonic()
        self._names: list[str] = []
        self._megapixels = 0.0

    def begin(self, what: str, names: list[str]) -> None:
        """Begin with slides or cases."""
        self.what, self._names, self.total = what, names, len(names)
        self.done = self.failed = self.not_evaluable = self.kept = 0
        self.slots.clear()
        self.begun, self._megapixels = time.monotonic(), 0.0
        self._tell()

    def tell(self, index: int, stage: str, done: int, total: int, megapixels: float) -> None:
        """Take note of how a job goes on."""
        slot = self.slots.setdefault(index, Slot(self._names[index]))
        slot.stage, slot.done, slot.total = stage, done, total
        slot.megapixels = max(slot.megapixels, megapixels)
        self._tell()

    def end(self, index: int, word: str) -> None:
        """Take note of what became of a job: done, kept, not_evaluable or failed."""
        slot = self.slots.pop(index, None)
        self._megapixels += slot.megapixels if slot else 0.0
        self.done += 1
        if word in ("failed", "not_evaluable", "kept"):
            setattr(self, word, getattr(self, word) + 1)
        self._tell()

    @property
    def rate(self) -> float:
        """Megapixels a second since the beginning."""
        now = self._megapixels + sum(s.megapixels for s in self.slots.values())
        return now / max(1e-3, time.monotonic() - self.begun)

    @property
    def left_s(self) -> float | None:
        """Seconds that are left, by the mean of what was worked on; None before the first ended."""
        worked = self.done - self.kept
        if worked <= 0:
            return None
        return (self.total - self.done) * (time.monotonic() - self.begun) / worked

    def line(self) -> str:
        """Return the standing as one line."""
        left = self.left_s
        words = [f"{self.done} of {self.total} {self.what}", f"{self.failed} failed"]
        if self.not_evaluable:
            words.append(f"{self.not_evaluable} not evaluable")
        if self.kept:
            words.append(f"{self.kept} were complete already")
        if self.rate >= 0.05:
            words.append(f"{self.rate:.1f} Mpx/s")
        if left is not None and self.done < self.total:
            words.append(f"{clock(left)} left")
        return ", ".join(words)

    def _tell(self) -> None:
        if self.changed is not None:
            self.changed(self)


def clock(seconds: float) -> str:
    """Return seconds as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


class Log:
    """``batch.log``: plain lines with the time of day, appended.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last = time.monotonic()

    def say(self, text: str) -> None:
        """Write one line.

        Raises
        ------
        DiskFull, OutputError
        """
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        self._write(f"{stamp} {one_line(text, 1000)}\n")

    def trace(self, text: str) -> None:
        """Write a traceback, indented."""
        self._write("".join(f"    {one_line(line, 500)}\n" for line in text.splitlines()))

    def summary(self, board: BatchProgress) -> None:
        """Write the standing, once a minute."""
        if time.monotonic() - self._last >= SUMMARY_S:
            self._last = time.monotonic()
            self.say(board.line())

    def _write(self, text: str) -> None:
        with disk_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(text)
