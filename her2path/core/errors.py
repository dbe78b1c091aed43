"""Everything that can go wrong, in one tree.

::

    Her2PathError                     exit code
     +-- UsageError                       2   wrong command, option or argument
     |    +-- SettingsError               2   settings file or --set
     |    +-- ManifestError               2   manifest, reads or counts table
     |    +-- AnnotationError             2   GeoJSON / XML annotations
     |    +-- OutputError                 2   OUT cannot be written, or belongs to another run
     |    +-- MissingExtra                2   an optional part is not installed
     +-- InputError                       3   input that cannot be read
     |    +-- SlideUnreadable             3   not a slide, truncated, bad tiles
     |    +-- MppMissing                  3   no pixel size, or an absurd one
     |    +-- WorkerCannotSee             3   a cluster worker does not see a path
     +-- NotEvaluable                     4   read, but no score can be given
     +-- ProgramFault                     5   a fault of the program
          +-- DiskFull                    5   no room left in mid-run

Every message is one line of two sentences: what is wrong, and how to mend it.
"""

from __future__ import annotations

import os
import re

__all__ = [
    "AnnotationError",
    "DiskFull",
    "Her2PathError",
    "InputError",
    "ManifestError",
    "MissingExtra",
    "MppMissing",
    "NotEvaluable",
    "OutputError",
    "ProgramFault",
    "SettingsError",
    "SlideUnreadable",
    "UsageError",
    "WorkerCannotSee",
    "actual",
    "one_line",
    "shown",
]


def one_line(text: object, limit: int = 400) -> str:
    """Return ``text`` as one printable line of at most ``limit`` characters."""
    words = " ".join(shown(text).split())
    clean = "".join(c if c.isprintable() else "?" for c in words)
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


def shown(name: object) -> str:
    r"""Return a file's name or path as text that every output can hold.

    A name need not be Unicode on every system: bytes that are not become ``\xe9``.
    """
    text = str(name)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        try:
            return os.fsencode(text).decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # no file's name at all
            return text.encode("utf-8", "backslashreplace").decode()
    return text


def actual(path: str) -> str:
    """Return the path that `shown` made into ``path``, where that one is there and this is not."""
    if "\\x" not in path or os.path.lexists(path):
        return path
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), os.fsencode(path))
    found = os.fsdecode(raw)
    return found if b"\0" not in raw and os.path.lexists(found) else path


class Her2PathError(Exception):
    """Root of the tree.

    Parameters
    ----------
    what : str
        What is wrong, without a final full stop.
    mend : str
        How to mend it, without a final full stop.
    """

    exit_code = 5

    def __init__(self, what: str, mend: str = "") -> None:
        self.what = one_line(what).rstrip(". ")
        self.mend = one_line(mend).rstrip(". ")
        super().__init__(self.what, self.mend)

    def __str__(self) -> str:
        return f"{self.what}. {self.mend}." if self.mend else f"{self.what}."


class UsageError(Her2PathError):
    """Wrong command, option or argument."""

    exit_code = 2


class SettingsError(UsageError):
    """A settings file or ``--set`` that does not fit the settings model."""


class ManifestError(UsageError):
    """A manifest, reads or counts table that cannot be used; names row and column."""


class AnnotationError(UsageError):
    """Annotations that cannot be used."""


class OutputError(UsageError):
    """OUT cannot be written, or belongs to another run."""


class MissingExtra(UsageError):
    """An optional part is not installed; the message says how to install it."""


class InputError(Her2PathError):
    """Input that cannot be read."""

    exit_code = 3


class SlideUnreadable(InputError):
    """Not a slide, truncated, or with too many unreadable tiles."""


class MppMissing(InputError):
    """No pixel size in the file, or an absurd one; names ``--mpp``."""


class WorkerCannotSee(InputError):
    """A worker of the cluster does not see a path that it needs."""


class NotEvaluable(Her2PathError):
    """The slide was read, but no score can be given; ``code`` is the QC flag."""

    exit_code = 4

    def __init__(self, what: str, mend: str = "", code: str = "NOT_EVALUABLE") -> None:
        super().__init__(what, mend)
        self.code = code


class ProgramFault(Her2PathError):
    """A fault of the program."""

    exit_code = 5


class DiskFull(ProgramFault):
    """No room left in mid-run; what is done stays and is resumed."""
