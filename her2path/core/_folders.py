"""Where compiled kernels and fonts are kept when nothing of the installation can be written.

numba keeps its kernels beside the package, or below the home. A container's user often has neither,
and numba then refuses to load them at all.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

__all__ = ["private_folder", "settle"]


def settle() -> None:
    """Name a folder for numba and matplotlib, by their own variables, where they would have none.

    What the user has set stays.
    """
    if not os.environ.get("NUMBA_CACHE_DIR") and not (_beside_the_package() or _in_home(".cache")):
        _name("NUMBA_CACHE_DIR", "kernels")
        if "numba" in sys.modules:  # it has read its variables already
            sys.modules["numba"].config.CACHE_DIR = os.environ.get("NUMBA_CACHE_DIR", "")
    if not os.environ.get("MPLCONFIGDIR") and not (_in_home(".config") and _in_home(".cache")):
        _name("MPLCONFIGDIR", "matplotlib")


def _name(variable: str, below: str) -> None:
    folder = private_folder()
    if folder is not None:
        os.environ[variable] = str(folder / below)


def _beside_the_package() -> bool:
    """Tell whether every folder of the package can hold numba's files."""
    package = Path(__file__).parents[1]
    places = (file.parent for file in package.rglob("__init__.py"))
    return all(_can_write(p / "__pycache__") for p in places)


def _in_home(below: str) -> bool:
    variable = {".cache": "XDG_CACHE_HOME", ".config": "XDG_CONFIG_HOME"}[below]
    given = os.environ.get(variable) or os.path.join(os.path.expanduser("~"), below)  # noqa: PTH111, PTH118 - Path.home() raises where there is none
    return _can_write(Path(given))


def _can_write(folder: Path) -> bool:
    """Tell whether a folder can be written, or made."""
    for place in (folder, *folder.parents):
        if os.path.lexists(place):
            return place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    return False


def private_folder() -> Path | None:
    """Return a folder for temporary files that this user alone can write; None where there is none.

    Compiled code is read back from it, so one that another could have made is not taken.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    try:
        usual = Path(tempfile.gettempdir()) / f"her2path-{user}"
        usual.mkdir(mode=0o700, exist_ok=True)
        found = usual.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o077:
            return usual
    except OSError:
        pass
    try:
        own = Path(tempfile.mkdtemp(prefix="her2path-"))
    except OSError:
        return None
    atexit.register(_remove, own, os.getpid())
    return own


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
