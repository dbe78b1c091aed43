"""Writing so that a reader never sees half a file, and one line for whatever goes wrong."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from her2path.errors import DiskFull, OutputError

__all__ = [
    "atomic_dir",
    "atomic_file",
    "disk_errors",
    "make_dir",
    "read_json",
    "remove",
    "write_bytes",
    "write_json",
    "write_text",
]

_FULL = (errno.ENOSPC, errno.EDQUOT)


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


def make_dir(path: Path) -> Path:
    """Make a folder and its parents; return it.

    Raises
    ------
    OutputError, DiskFull
    """
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)
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


def _sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it takes its place when the block ends well.

    Raises
    ------
    OutputError, DiskFull
        ``path`` is then as it was, and the temporary file is gone.
    """
    temporary = _sibling(path)
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
    temporary = _sibling(path)
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
        raise OutputError(
            f"{path} is missing", "Give a folder that her2path has finished"
        ) from exc
    except (OSError, ValueError, RecursionError) as exc:
        raise OutputError(
            f"{path} cannot be read ({exc})", "Score the slide again with --overwrite"
        ) from exc
