"""Writing so that a reader never sees half a file, and one line for whatever goes wrong."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from her2path.core.errors import DiskFull, OutputError, shown

__all__ = [
    "atomic_dir",
    "atomic_file",
    "clear_leftovers",
    "disk_errors",
    "ended",
    "folder_of",
    "make_dir",
    "read_json",
    "remove",
    "temporary_name",
    "write_bytes",
    "write_json",
    "write_text",
]

#: without a sign of life for so long, what another host left is stale, seconds
STALE_S = 300.0

_FULL = (errno.ENOSPC, errno.EDQUOT)
#: whose a temporary file is: process and host; see `temporary_name`
_TEMPORARY = re.compile(r"\..+\.(\d+)@(.+)\.tmp")
#: process start times are compared within this, seconds (clocks are read twice)
_START_TOLERANCE_S = 2.0


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the file system says into the project's own errors.

    Raises
    ------
    DiskFull
        No room, or the quota is spent.
    OutputError
        Anything else that keeps ``path`` from being written.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL:
            raise DiskFull(
                f"the disk is full while writing {path}",
                "Make room and run the same command again: what is done stays",
            ) from exc
        raise OutputError(
            f"{path} cannot be written ({exc.strerror or exc})",
            "Give -o a folder that you may write to",
        ) from exc


def folder_of(out: str | Path) -> Path:
    """Return OUT as a path.

    Raises
    ------
    OutputError
        For an empty text, which would stand for the working folder, and for a name that is not
        Unicode, which Parquet and Zarr cannot write to.
    """
    if not str(out).strip():
        raise OutputError("the name of the output folder is empty", "Give -o a name")
    try:
        str(Path(out).absolute()).encode("utf-8")
    except UnicodeEncodeError as exc:
        raise OutputError(
            f"the name {shown(Path(out).absolute())} is not UTF-8",
            "Give -o a folder with a name in UTF-8, and no folder above it with another",
        ) from exc
    return Path(out)


def make_dir(path: Path) -> Path:
    """Make a folder and its parents; return it.

    Raises
    ------
    OutputError, DiskFull
    """
    with disk_errors(path):
        folder_of(path).mkdir(parents=True, exist_ok=True)
    return path


def remove(path: Path) -> None:
    """Remove a file or a folder; nothing happens where there is none."""
    with disk_errors(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def temporary_name(path: Path, token: str = "") -> Path:
    """Return the hidden name beside ``path`` that this process writes to first.

    It names process and host, so that `clear_leftovers` can tell what a killed one left.
    """
    parts = (path.name.removeprefix("."), token, f"{os.getpid()}@{socket.gethostname()}", "tmp")
    return path.with_name("." + ".".join(p for p in parts if p))


def ended(pid: int, since: float) -> bool:
    """Tell whether the process of this host that had the number at the time ``since`` is gone.

    Numbers are given anew: a process born after ``since`` is another one.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        return bool(
            process.status() == psutil.STATUS_ZOMBIE
            or process.create_time() > since + _START_TOLERANCE_S
        )
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def clear_leftovers(folder: Path) -> None:
    """Remove what killed writers left half written in a folder; nothing of a living one.

    What came from another host goes when it is older than `STALE_S`; what cannot be removed stays.
    """
    for path in sorted(folder.glob(".*.tmp")):
        match = _TEMPORARY.fullmatch(path.name)
        if match is None:
            continue
        with suppress(OSError, OutputError):
            written = path.lstat().st_mtime
            here = match[2] == socket.gethostname()
            if ended(int(match[1]), written) if here else time.time() - written > STALE_S:
                remove(path)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it takes its place when the block ends well.

    Raises
    ------
    OutputError, DiskFull
        ``path`` is then as it was, and the temporary file is gone.
    """
    temporary = temporary_name(path)
    try:
        with disk_errors(path):
            yield temporary
            _fsync(temporary)
            temporary.replace(path)
            _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; it takes its place when the block ends well.

    A folder cannot be replaced in one step: for a moment there is none. A reader who needs more
    waits for ``result.json``.
    """
    temporary = temporary_name(path)
    remove(temporary)
    try:
        with disk_errors(path):
            temporary.mkdir(parents=True)
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _fsync(file)
            remove(path)
            temporary.replace(path)
            _fsync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes atomically."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, lines ending in a line feed on every system."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically.

    Raises
    ------
    ValueError
        For NaN and infinity: JSON has neither.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises
    ------
    OutputError
        Where it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise OutputError(f"{path} is missing", "Give a folder that her2path has finished") from exc
    except (OSError, ValueError, RecursionError) as exc:
        raise OutputError(
            f"{path} cannot be read ({exc})", "Score the slide again with --overwrite"
        ) from exc
