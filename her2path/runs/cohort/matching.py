"""Which file of an annotations folder belongs to which slide."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from her2path.core.errors import ManifestError, one_line
from her2path.io.annotations import SUFFIXES
from her2path.io.slide.files import slide_names
from her2path.runs.cohort.manifest import Entry

__all__ = ["find_annotations"]

#: names that one line holds
NAMED = 6
Tell = Callable[[str], None]


def find_annotations(
    entries: Sequence[Entry], folder: Path, tell: Tell | None = None
) -> list[Entry]:
    """Give every slide without annotations the file of its name in a folder, where there is one.

    A file's name without its suffix is the slide's id, file name, or file name without one or both
    suffixes (``A.geojson``, ``A.ome.geojson`` and ``A.ome.tif.geojson`` belong to ``A.ome.tif``);
    the spelling nearest to the slide's wins, and where none is exact, capitals and Unicode
    normalisation do not count.

    Parameters
    ----------
    entries : sequence of Entry
    folder : Path
    tell : callable, optional
        Told in one line what is left over while every slide has its annotations.

    Raises
    ------
    ManifestError
        Where ``folder`` is none or holds no annotations, where a file fits several slides or a
        slide several files, and where both slides and files are left over.
    """
    files = _files(folder)
    wanting = [e for e in entries if e.annotations is None]
    claims = _claims(wanting, files)
    found: dict[int, Path] = {}
    for path, rows in claims.items():
        if len(rows) > 1:
            raise ManifestError(
                f"{_named([path])} fits {len(rows)} slides, rows {', '.join(map(str, rows[:8]))}",
                "Name annotations after the slide_id, or list them in the manifest",
            )
        found[rows[0]] = path
    used = {*found.values(), *(e.annotations for e in entries)}
    over = [p for p in files if p not in used]
    bare = [e for e in wanting if e.row not in found]
    if over and bare:
        raise ManifestError(
            f"of the annotations in {one_line(folder, 80)} {_named(over)} fit no slide, and of the "
            f"slides {_named([e.slide for e in bare])} have none",
            "Name annotations after the slide_id, list them in the manifest, or move them away",
        )
    if tell is not None and over:
        tell(f"annotations that fit no slide of this batch: {_named(over)}")
    if tell is not None and bare:
        tell(f"slides without annotations: {_named([e.slide for e in bare])}")
    return [replace(e, annotations=found.get(e.row, e.annotations)) for e in entries]


def _files(folder: Path) -> list[Path]:
    """Return the annotation files of a folder.

    Raises
    ------
    ManifestError
    """
    hint = "In a batch --annotations names a folder of <slide_id>.geojson"
    if not folder.is_dir():
        raise ManifestError(f"{folder} is not a folder", hint)
    try:
        files = sorted(p.absolute() for p in folder.iterdir() if _is_annotation(p))
    except OSError as exc:
        raise ManifestError(f"{folder} cannot be listed ({exc.strerror})", hint) from exc
    if not files:
        raise ManifestError(f"{folder} holds no annotations ({', '.join(SUFFIXES[:4])})", hint)
    return files


def _is_annotation(path: Path) -> bool:
    name = path.name.casefold()
    return name.endswith(SUFFIXES) and not name.startswith(".") and path.is_file()


def _claims(entries: Sequence[Entry], files: Sequence[Path]) -> dict[Path, list[int]]:
    """Return the rows that claim each file, by the first spelling that any file has.

    Raises
    ------
    ManifestError
        Where a slide finds several files.
    """
    exact: dict[str, list[Path]] = {}
    loose: dict[str, list[Path]] = {}
    for path in files:
        exact.setdefault(_bare(path.name), []).append(path)
        loose.setdefault(_loose(_bare(path.name)), []).append(path)
    out: dict[Path, list[int]] = {}
    rank: dict[Path, int] = {}
    for e in entries:
        for place, (found, name) in enumerate(_spellings(e, exact, loose)):
            mine = found.get(name, [])
            if len(mine) > 1:
                raise ManifestError(
                    f"row {e.row}: {_named(mine)} all fit {one_line(e.slide.name, 80)!r}",
                    "Leave one of them, or list it in the manifest",
                )
            if mine:
                # A.geojson belongs to A.svs, and to A.ome.tif only where there is no A.svs
                if place < rank.get(mine[0], place + 1):
                    out[mine[0]], rank[mine[0]] = [], place
                if place == rank[mine[0]]:
                    out[mine[0]].append(e.row)
                break
    return out


def _spellings(
    e: Entry, exact: dict[str, list[Path]], loose: dict[str, list[Path]]
) -> Iterator[tuple[dict[str, list[Path]], str]]:
    """Yield what a slide's annotations may be called, the surest first."""
    names = (e.slide_id, e.slide.name, e.slide.stem, _without_suffixes(e.slide.name))
    yield from ((exact, name) for name in names)
    yield from ((loose, _loose(name)) for name in names)


def _bare(name: str) -> str:
    """Return the name of an annotation file without its suffix."""
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.casefold().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _without_suffixes(name: str) -> str:
    """Return a slide's name without its suffix, ``.ome.tif`` and the like as a whole."""
    known = {*slide_names(), ".ome", ".qptiff", ".zarr"}
    path = Path(name)
    while path.suffix.casefold() in known and path.stem:
        path = Path(path.stem)
    return path.name


def _loose(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).strip()


def _named(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(one_line(p.name, 80) for p in paths[:NAMED]) + more
