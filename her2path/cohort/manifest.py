"""The manifest: which slides, which cases. Everything wrong is said before any work starts."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from her2path.errors import ManifestError, one_line
from her2path.slide import find_slides

__all__ = ["KNOWN", "Entry", "listed", "plain_name", "read_manifest", "safe_name"]

#: columns with a meaning; all others are carried through
KNOWN = (
    "slide", "case_id", "slide_id", "annotations", "mpp", "guideline", "ish", "specimen",
    "timepoint", "tma_map", "scanner", "batch", "reader_score",
)
#: columns that have a field of their own here; `scanner`, `batch` and unknown ones are carried
TOLD = frozenset(KNOWN) - {"scanner", "batch"}
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
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ManifestError(f"{path} is over {MAX_BYTES >> 20} MiB", "Give a manifest")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as exc:
        raise ManifestError(f"cannot read {path} ({exc.strerror})", "Check the path") from exc
    except UnicodeDecodeError as exc:
        raise ManifestError(f"{path} is not a UTF-8 text table", "Save it as CSV, UTF-8") from exc
    return _parsed(path, text)


def _parsed(path: Path, text: str) -> list[tuple[int, dict[str, str]]]:
    if "\0" in text:
        raise ManifestError(f"{path} is not a text table", "Save it as CSV")
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    try:
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
        lines = [(reader.line_num, row) for row in reader if any(c.strip() for c in row)]
    except csv.Error as exc:
        raise ManifestError(f"{path} is not valid CSV ({exc})", "Save it as CSV again") from exc
    if not lines:
        raise ManifestError(f"{path} is empty", "Write a header line with the column slide")
    header, lines = _without_empty_columns(lines)
    if "slide" not in header:
        raise ManifestError(f"{path} has no column slide", f"Known columns: {', '.join(KNOWN)}")
    if len(set(header)) != len(header):
        raise ManifestError(f"{path} names a column twice", "Give every column one name")
    if len(lines) == 1:
        raise ManifestError(f"{path} lists no slide", "Add a row for every slide")
    wrong = [str(n) for n, row in lines[1:] if len(row) != len(header)]
    if wrong:
        raise ManifestError(
            f"{path}: row {', '.join(wrong[:8])} has not {len(header)} fields", "Correct these rows"
        )
    return [(n, dict(zip(header, (c.strip() for c in row), strict=True))) for n, row in lines[1:]]


def _without_empty_columns(
    lines: list[tuple[int, list[str]]],
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Drop the nameless, empty columns that spreadsheets leave at the end of every line."""
    width = len(lines[0][1])
    while width and all(
        len(row) < width or not row[width - 1].strip() for _, row in lines
    ):
        width -= 1
        lines = [(n, row[:width] if len(row) == width + 1 else row) for n, row in lines]
    return [h.strip() for h in lines[0][1]], lines


def _entry(
    row: int, values: dict[str, str], base: Path, problems: list[str], slide_needed: bool
) -> Entry | None:
    def complain(text: str) -> None:
        problems.append(f"row {row}: {one_line(text, 160)}")

    def file_of(column: str, needed: bool = True) -> Path | None:
        text = values.get(column, "")
        if not text:
            return None
        path = Path(text) if Path(text).is_absolute() else base / text
        try:
            there = path.exists()
        except (OSError, ValueError):  # a name that is too long, or holds what no name may
            there = False
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
    slide_id = values.get("slide_id") or slide.stem
    return Entry(
        row=row,
        slide=slide,
        slide_id=one_line(slide_id, 200),
        case_id=one_line(values.get("case_id") or slide.stem, 200),
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


def _mpp(text: str, complain: Callable[[str], None]) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0.1 <= value <= 2.0:
        complain(f"mpp {text!r} is not a number from 0.1 to 2.0")
        return None
    return value


def _check_unique(entries: list[Entry], problems: list[str]) -> None:
    first: dict[str, int] = {}
    for e in entries:
        key = e.slide_id.casefold()
        if key in first:
            problems.append(
                f"rows {first[key]} and {e.row}: slide_id {one_line(e.slide_id, 80)!r} twice"
                " (give them slide_id)"
            )
        else:
            first[key] = e.row
    folders: dict[str, int] = {}
    for e in entries:
        key = e.folder.casefold()
        if key in folders and first.get(e.slide_id.casefold()) == e.row:
            problems.append(f"rows {folders[key]} and {e.row}: ids that become one folder name")
        folders.setdefault(key, e.row)
    _check_cases(entries, problems)


def _check_cases(entries: list[Entry], problems: list[str]) -> None:
    """Case ids that differ in capitals alone are a slip: which is meant cannot be told."""
    spelt: dict[str, tuple[str, int]] = {}
    for e in entries:
        name, row = spelt.setdefault(e.case_id.casefold(), (e.case_id, e.row))
        if name != e.case_id:
            problems.append(
                f"rows {row} and {e.row}: case_id {name!r} and {e.case_id!r} differ in capitals"
            )
