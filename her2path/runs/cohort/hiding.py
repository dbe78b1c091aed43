"""What ``--pseudonymise`` makes of a manifest and of error messages."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from her2path.core.errors import OutputError, one_line
from her2path.core.hiding import check_hideable
from her2path.core.settings import ASSAY_PARTS, Settings
from her2path.io.slide.files import sha256_quick
from her2path.io.store import BatchStore
from her2path.io.store.files import read_json
from her2path.runs.cohort.manifest import Entry

__all__ = ["check_hidden_batch", "clean", "hide_names"]

#: columns of which two values stay two values
_GROUPS = ("scanner", "stainer", "clone", "batch")
_SPECIMENS = ("biopsy", "resection", "metastasis")
_SCORE = re.compile(
    r"[0-9+./% -]*|(0/|her2[ -]?)?(null|ultra-?low|low|positive|negative|equivocal)", re.IGNORECASE
)
_NUMBER = re.compile(r"[0-9][0-9.,:/T -]*")
#: words that name a time and nobody
_TIME = re.compile(
    r"(baseline|pre|post|before|after|during|primary|first|second|last|diagnosis|biopsy|surgery|"
    r"resection|metastasis|recurrence|relapse|progression|follow|up|therapy|treatment|cycle|day|"
    r"week|month|year|visit|time|point|timepoint|[tcdwmyv]|[0-9]+|[\s_.-])+", re.IGNORECASE
)  # fmt: skip
#: what stands in quotes is somebody's word; an apostrophe is no quote
_QUOTED = re.compile(r"""(?<!\w)'[^']*'(?!\w)|"[^"]*\"""")
_PATH = re.compile(r"""(?<![\w.µ])(?:/|[A-Za-z]:\\|\\\\)[^\s'"():;,]+""")


def check_hidden_batch(store: BatchStore, entries: Sequence[Entry], settings: Settings) -> None:
    """Refuse an OUT that holds a batch with names, and rule sets that are named by a path.

    Raises
    ------
    OutputError, UsageError
    """
    for guideline in {settings.score.guideline, *(e.guideline for e in entries if e.guideline)}:
        check_hideable(guideline)
    if store.run_json.is_file() and not read_json(store.run_json).get("pseudonymised"):
        raise OutputError(f"{store.out} holds a batch with names", "Give another -o")


def hide_names(entries: Sequence[Entry]) -> list[Entry]:
    """Replace ids that are file names by fingerprints, and drop free text.

    A case id that the manifest gives stays: it is the user's own pseudonym. Specimen, time point
    and reader's score stay where they are words of their kind; scanner, stainer, clone and batch
    become numbers where they are none.

    Raises
    ------
    InputError
        Where a slide cannot be read at all.
    """
    out: list[Entry] = []
    taken: set[str] = set()
    times = _times(entries)
    groups = {name: _numbers(name, [e.extra.get(name, "") for e in entries]) for name in _GROUPS}
    for e in entries:
        # what cannot be read will fail, and is named by its row; a pipe would be waited for
        name = f"slide-row{e.row}"
        with contextlib.suppress(OSError):
            if e.slide.is_file():
                name = f"slide-{sha256_quick(str(e.slide))[:12]}"
        if name in taken:
            name = f"{name}-row{e.row}"
        taken.add(name)
        case = e.case_id if e.case_id != e.slide.stem else name.replace("slide", "case", 1)
        out.append(replace(
            e, slide_id=name, folder=name, case_id=case, hidden=True,
            specimen=e.specimen if e.specimen.casefold() in _SPECIMENS else "",
            timepoint=times.get((e.case_id, e.timepoint), e.timepoint),
            reader_score=e.reader_score if _SCORE.fullmatch(e.reader_score) else "",
            extra={k: groups[k].get(v, v) for k, v in e.extra.items() if k in _GROUPS},
            assay={k: v for k, v in e.extra.items() if k in ASSAY_PARTS},
        ))  # fmt: skip
    return out


def _times(entries: Sequence[Entry]) -> dict[tuple[str, str], str]:
    """Return what stands for the time points of cases of which one is free text: their order."""
    by_case: dict[str, set[str]] = {}
    for e in entries:
        if e.timepoint and not _NUMBER.fullmatch(e.timepoint):
            by_case.setdefault(e.case_id, set()).add(e.timepoint)
    out = {}
    for case, words in by_case.items():
        if not all(_TIME.fullmatch(w) for w in words):
            for place, word in enumerate(sorted(words, key=_natural), 1):
                out[case, word] = f"time point {place}"
    return out


def _natural(word: str) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", word.casefold())
    return [(int(p), "") if p.isdigit() else (-1, p) for p in parts]


def _numbers(name: str, values: Iterable[str]) -> dict[str, str]:
    free = dict.fromkeys(v for v in values if v and not re.fullmatch(r"[0-9]+", v))
    return {v: f"{name} {i}" for i, v in enumerate(free, 1)}


def clean(error: str, word: str, paths: Iterable[Path | None], out: Path) -> str:
    """Take names, folders and quoted words out of an error.

    Parameters
    ----------
    error : str
    word : str
        What stands for the files in their place.
    paths : iterable of Path or None
        Files that the error may speak of.
    out : Path
        Of the batch.
    """
    text = one_line(error, 2000)
    known = [p for p in paths if p is not None]
    for place in (out, out.absolute()):
        text = text.replace(str(place), "OUT") if len(str(place)) > 1 else text
    for path in known:
        text = text.replace(str(path), word)
    for name in sorted({n for p in known for n in (p.name, p.stem)}, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", word, text)
    folders = {str(parent) for p in known for parent in p.parents if len(str(parent)) > 1}
    for folder in sorted(folders, key=len, reverse=True):
        text = text.replace(folder, "")
    return one_line(_PATH.sub("a file", _QUOTED.sub("'...'", text)))
