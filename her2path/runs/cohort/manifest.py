"""The manifest: which slides, which cases. Everything wrong is said before any work starts."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from her2path.core.csvfile import read_sheet, same_name, tidy
from her2path.core.errors import ManifestError, one_line, shown
from her2path.core.numerals import to_number
from her2path.io.slide import find_slides

__all__ = ["KNOWN", "Entry", "listed", "plain_name", "read_manifest", "safe_name"]

#: columns with a meaning; all others are carried through
KNOWN = (
    "slide",
    "case_id",
    "slide_id",
    "annotations",
    "mpp",
    "guideline",
    "ish",
    "specimen",
    "timepoint",
    "tma_map",
    "scanner",
    "stainer",
    "clone",
    "batch",
    "reader_score",
)
#: columns that have a field of their own here; the others and unknown ones are carried
TOLD = frozenset(KNOWN) - {"scanner", "stainer", "clone", "batch"}
MAX_BYTES = 64 << 20
MAX_NAME = 80
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
#: names that some systems keep for devices
_RESERVED = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10))}


@dataclass(frozen=True)
class Entry:
    """One slide of a batch."""

    row: int
    slide: Path
    slide_id: str
    case_id: str
    folder: str
    annotations: Path | None = None
    mpp: float | None = None
    guideline: str | None = None
    ish: Path | None = None
    specimen: str = ""
    timepoint: str = ""
    tma_map: Path | None = None
    reader_score: str = ""
    extra: dict[str, str] = field(default_factory=dict)
    #: whether names are hidden: see `hiding`
    hidden: bool = False
    #: what the manifest says of the assay, where `extra` no longer does
    assay: dict[str, str] = field(default_factory=dict)


def safe_name(name: str) -> str:
    """Return a name that is safe as one folder on every system, and stays one of a kind.

    Letters, digits, ``.``, ``_`` and ``-`` stay; where anything had to be replaced or cut, eight
    digits of the name's hash are added, so that two names never become one.
    """
    clean = plain_name(name).strip("._-")
    tame = clean[:MAX_NAME] or "slide"
    if tame.split(".")[0].casefold() in _RESERVED:
        tame = f"x-{tame}"
    if tame == name:
        return tame
    # file names need not be Unicode: what is not stays distinct all the same
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{tame[: MAX_NAME - 9]}-{digest[:8]}"


def plain_name(name: str) -> str:
    """Return a name with everything but letters, digits, ``.``, ``_`` and ``-`` replaced."""
    return _UNSAFE.sub("_", name)


def read_manifest(source: str | Path, slides_needed: bool = True) -> list[Entry]:
    """Read a manifest, or list a folder's slides, each a case of its own.

    Parameters
    ----------
    source : path
        CSV with the column ``slide`` (paths relative to the manifest's folder), or a folder.
    slides_needed : bool
        Whether the slides themselves must be there.

    Raises
    ------
    ManifestError
        Names the rows: no slides, missing columns or files, doubled ids, wrong values.
    """
    path = Path(source)
    if path.is_dir():
        slides = find_slides(str(path))
        if not slides:
            raise ManifestError(
                f"no slide was found in {path}", "Give a folder with slides, or a CSV"
            )
        rows = [(i, {"slide": str(Path(p).absolute())}) for i, p in enumerate(slides, 1)]
        base = path
    else:
        rows, base = _rows(path), path.parent
    problems: list[str] = []
    found = (_entry(n, row, base, problems, slides_needed) for n, row in rows)
    entries = [e for e in found if e is not None]
    _check_unique(entries, problems)
    if problems:
        raise listed(path, problems)
    return entries


def listed(path: object, problems: list[str]) -> ManifestError:
    """Return the error that names the first problems and counts the others."""
    shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if problems[8:] else "")
    return ManifestError(f"{path}: {shown}", "Correct these rows")


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    sheet = read_sheet(path, KNOWN, MAX_BYTES)
    if "slide" not in sheet.columns:
        raise ManifestError(f"{path} has no column slide", f"Known columns: {', '.join(KNOWN)}")
    if not sheet.rows:
        raise ManifestError(f"{path} lists no slide", "Add a row for every slide")
    return list(sheet.records())


def _entry(
    row: int, values: dict[str, str], base: Path, problems: list[str], slide_needed: bool
) -> Entry | None:
    def complain(text: str) -> None:
        problems.append(f"row {row}: {one_line(text, 160)}")

    def file_of(column: str, needed: bool = True) -> Path | None:
        text = values.get(column, "")
        if not text:
            return None
        path, there = _as_stored(base / text)
        if not there and needed:
            complain(f"{column} {one_line(text, 100)!r} does not exist")
            return None
        # a pipe or a device would be read without end; as a slide it costs a child, and itself
        if there and column != "slide" and not path.is_file():
            complain(f"{column} {one_line(text, 100)!r} is not a file")
            return None
        return path.absolute()

    if not values.get("slide"):
        complain("slide is empty")
        return None
    slide = file_of("slide", slide_needed)
    if slide is None:
        return None
    stem = tidy(shown(slide.stem))
    slide_id = tidy(values.get("slide_id", "")) or stem
    return Entry(
        row=row,
        slide=slide,
        slide_id=one_line(slide_id, 200),
        case_id=one_line(tidy(values.get("case_id", "")) or stem, 200),
        folder=safe_name(slide_id),
        annotations=file_of("annotations"),
        mpp=_mpp(values.get("mpp", ""), complain),
        guideline=values.get("guideline") or None,
        ish=file_of("ish"),
        specimen=values.get("specimen", ""),
        timepoint=values.get("timepoint", ""),
        tma_map=file_of("tma_map"),
        reader_score=values.get("reader_score", ""),
        extra={k: v for k, v in values.items() if k not in TOLD},
    )


def _as_stored(path: Path) -> tuple[Path, bool]:
    """Return a path as the disk spells it, and whether it is there.

    Names that look the same may be stored with accents composed or apart, or in the bytes of
    Windows-1252.
    """
    text = str(path)
    spelt = [text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFD"))]
    with contextlib.suppress(UnicodeEncodeError):
        spelt.append(os.fsdecode(text.encode("cp1252")))
    for name in dict.fromkeys(spelt):
        # a name may be too long, or hold what no name may
        with contextlib.suppress(OSError, ValueError):
            if Path(name).exists():
                return Path(name), True
    return path, False


def _mpp(text: str, complain: Callable[[str], None]) -> float | None:
    if not text:
        return None
    try:
        value = float(to_number(text, least=0.1, most=2.0))
    except ValueError:
        value = float("nan")
    if not 0.1 <= value <= 2.0:
        complain(f"mpp {text!r} is not a number from 0.1 to 2.0")
        return None
    return value


def _check_unique(entries: list[Entry], problems: list[str]) -> None:
    first: dict[str, Entry] = {}
    for e in entries:
        known = first.setdefault(same_name(e.slide_id), e)
        if known is not e:
            problems.append(
                f"rows {known.row} and {e.row}: slide_id {one_line(e.slide_id, 80)!r} twice"
                " (give them slide_id)"
            )
    folders: dict[str, int] = {}
    for e in entries:
        key = e.folder.casefold()
        if key in folders and first[same_name(e.slide_id)] is e:
            problems.append(f"rows {folders[key]} and {e.row}: ids that become one folder name")
        folders.setdefault(key, e.row)
    _check_cases(entries, problems)


def _check_cases(entries: list[Entry], problems: list[str]) -> None:
    """Case ids that differ in capitals alone are a slip: which is meant cannot be told."""
    spelt: dict[str, tuple[str, int]] = {}
    for e in entries:
        name, row = spelt.setdefault(same_name(e.case_id), (e.case_id, e.row))
        if name != e.case_id:
            problems.append(
                f"rows {row} and {e.row}: case_id {name!r} and {e.case_id!r} differ in capitals"
                " or forms of letters alone"
            )
