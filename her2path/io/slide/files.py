"""Slides as files: which names are read, what a folder holds, and a quick fingerprint."""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from her2path.core.errors import SlideUnreadable

__all__ = ["find_slides", "resolve", "sha256_quick", "slide_names"]

#: suffixes of slides and images that are read
SUFFIXES = (
    ".svs", ".svslide", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".dcm", ".tif",
    ".tiff", ".btf", ".png", ".jpg", ".jpeg",
)  # fmt: skip
_EDGE = 1 << 20
_SAMPLE = 1 << 16
#: DICOM image type (0008,0008) of the levels of a slide, in explicit little-endian form
_VOLUME = re.compile(rb"\x08\x00\x08\x00CS..[A-Z]{1,16}\\[A-Z]{1,16}\\VOLUME", re.DOTALL)
#: DICOM tag (0020,000E), the series, in the same form
_SERIES = re.compile(rb"\x20\x00\x0e\x00UI(..)([0-9.]{8,64})", re.DOTALL)


def slide_names() -> tuple[str, ...]:
    """Return the suffixes that are read, lower case with their dot.

    ``.ome.tif`` and the like end on one of them; a DICOM slide may also be given as its folder.
    """
    return SUFFIXES


def resolve(path: str) -> str:
    """Return the file to open for a path: itself, or the first instance of a DICOM folder.

    Raises
    ------
    SlideUnreadable
        Missing, empty, not a regular file, a folder without DICOM or with several slides of it,
        an MRXS without its data.
    """
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        raise SlideUnreadable(f"{path} does not exist", "Check the path") from None
    except (OSError, ValueError) as exc:  # loops of links, no permission, a NUL in the name
        raise SlideUnreadable(
            f"{path} cannot be opened ({getattr(exc, 'strerror', None) or exc})",
            "Check the path and its permissions",
        ) from exc
    if stat.S_ISDIR(found.st_mode):
        instances = _dicom_files(Path(path))
        if not instances:
            raise SlideUnreadable(
                f"{path} is a folder without DICOM files", "Give a slide, or use her2path batch"
            )
        series = _volumes(instances)
        if len(series) > 1:
            raise SlideUnreadable(
                f"{path} holds {len(series)} DICOM slides (series)",
                "Give one of their files, or use her2path batch",
            )
        return str(series[0])
    if not stat.S_ISREG(found.st_mode):
        raise SlideUnreadable(f"{path} is not a regular file", "Give a slide file")
    if found.st_size == 0:
        raise SlideUnreadable(f"{path} is empty", "Copy it again from the scanner")
    if Path(path).suffix.lower() == ".mrxs" and not Path(path).with_suffix("").is_dir():
        raise SlideUnreadable(
            f"{path} lacks its data folder {Path(path).stem}/",
            "Copy the folder of the same name beside the .mrxs file",
        )
    return path


def find_slides(folder: str) -> list[str]:
    """Return the slides of a folder, sorted, hidden files and folders left out.

    A sub-folder that holds DICOM files counts as one slide, or as one a series; files of one DICOM
    series in the folder itself count as one. Data folders of MRXS files are not entered, nor is any
    other.

    Raises
    ------
    SlideUnreadable
        When the folder cannot be listed.
    """
    try:
        entries = sorted(p for p in Path(folder).iterdir() if not p.name.startswith("."))
    except OSError as exc:
        raise SlideUnreadable(
            f"{folder} cannot be listed ({exc.strerror})", "Check the path and its permissions"
        ) from exc
    slides, series = [], set()
    for entry in entries:
        if entry.is_dir():
            held = _dicom_files(entry)
            several = _volumes(held) if held else []
            # of several slides in one folder each is given by a file
            slides += [str(p) for p in several] if len(several) > 1 else [str(entry)] * bool(held)
        elif entry.suffix.lower() == ".dcm":
            uid = _dicom_series(entry)
            if uid is None or uid not in series:
                slides.append(str(entry))
            series.add(uid)
        elif entry.suffix.lower() in SUFFIXES:
            slides.append(str(entry))
    return slides


def sha256_quick(path: str) -> str:
    """Return a fingerprint of a slide that reads a few MiB at most, hexadecimal.

    SHA-256 over the size, the first and last MiB and 64 KiB at three quarters of the file; for
    formats of several files also the names and sizes of the others. The file's own name and place
    do not count.
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        size = file.seek(0, 2)
        digest.update(f"{size}\n".encode())
        starts = [0, max(0, size - _EDGE)]
        for start, count in [(s, _EDGE) for s in starts] + [
            (size * k // 4, _SAMPLE) for k in (1, 2, 3)
        ]:
            file.seek(start)
            digest.update(file.read(count))
    for name, length in _companions(Path(path)):
        digest.update(f"{name}\0{length}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _companions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield (name, size) of the other files that make up a slide, sorted by name."""
    suffix, found = path.suffix.lower(), []
    if suffix == ".mrxs":
        found = [p for p in path.with_suffix("").iterdir() if p.is_file()]
    elif suffix in (".vms", ".vmu"):
        found = [p for p in path.parent.glob("*") if p.name.startswith(path.stem) and p != path]
    elif suffix == ".dcm":
        uid = _dicom_series(path)
        found = [
            p for p in _dicom_files(path.parent) if p != path and uid and _dicom_series(p) == uid
        ]
    for p in sorted(found):
        yield p.name, p.stat().st_size


def _dicom_files(folder: Path) -> list[Path]:
    try:
        return sorted(
            p
            for p in folder.iterdir()
            if p.suffix.lower() == ".dcm" and not p.name.startswith(".") and p.is_file()
        )
    except OSError:
        return []


def _volumes(instances: list[Path]) -> list[Path]:
    """Return the first file of every series that holds a slide's volume, or the very first file.

    Label and overview of a slide may come as a series of their own.
    """
    first: dict[bytes | None, Path] = {}
    for path in instances:
        if _VOLUME.search(_head(path)):
            first.setdefault(_dicom_series(path), path)
    return list(first.values()) or instances[:1]


def _dicom_series(path: Path) -> bytes | None:
    """Return the series of a DICOM file, or None where its head does not show one."""
    found = _SERIES.search(_head(path))
    return found.group(2) if found else None


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_SAMPLE)
    except OSError:
        return b""
