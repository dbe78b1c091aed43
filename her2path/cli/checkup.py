"""What `doctor` looks at."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from her2path import __version__
from her2path.core._optional import EXTRAS, available

__all__ = ["checkup"]

CORE = (
    "numpy",
    "numba",
    "scipy",
    "scikit-image",
    "opencv-python-headless",
    "openslide-python",
    "tifffile",
    "imagecodecs",
    "dask",
    "zarr",
    "pyarrow",
    "shapely",
    "pydantic",
)
#: system libraries that weasyprint cannot do without
PANGO = "libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 (Debian names)"


def checkup() -> list[dict[str, Any]]:
    """Return one row per thing: name, state (ok, missing, broken), and what to do."""
    return [
        _row("her2path", "ok", __version__),
        _row(
            "Python", "ok" if sys.version_info >= (3, 11) else "broken", platform.python_version()
        ),
        *(_package(name) for name in CORE),
        _openslide(),
        *_machine(),
        *(_extra(module, extra) for module, extra in EXTRAS.items()),
        _gpu(),
    ]


def _row(name: str, state: str, detail: str, mend: str = "") -> dict[str, Any]:
    return {"name": name, "state": state, "detail": detail, "mend": mend}


def _package(name: str) -> dict[str, Any]:
    try:
        return _row(name, "ok", version(name))
    except PackageNotFoundError:
        return _row(name, "broken", "not installed", "pip install her2path")


def _openslide() -> dict[str, Any]:
    from her2path.io import slide

    try:
        return _row("OpenSlide", "ok", slide.openslide_version())
    except (ImportError, OSError) as exc:
        return _row("OpenSlide", "broken", str(exc), "pip install openslide-bin")


def _machine() -> list[dict[str, Any]]:
    import psutil

    from her2path.runs.stream import default_workers

    memory = psutil.virtual_memory()
    free = shutil.disk_usage(Path.cwd()).free
    return [
        _row("processors", "ok", f"{default_workers()} of {os.cpu_count()}"),
        _row("memory", "ok", f"{memory.available >> 30} of {memory.total >> 30} GiB free"),
        _row("disk here", "ok", f"{free >> 30} GiB free"),
    ]


def _extra(module: str, extra: str) -> dict[str, Any]:
    if not available(module):
        return _row(module, "missing", "optional", f"pip install 'her2path[{extra}]'")
    if module == "weasyprint":
        try:
            __import__(module)
        except (ImportError, OSError) as exc:
            return _row(module, "missing", str(exc).splitlines()[0], f"install {PANGO}")
    return _row(module, "ok", version(module))


def _gpu() -> dict[str, Any]:
    if not available("torch"):
        return _row("GPU", "missing", "torch is not installed", "pip install 'her2path[cnn]'")
    from her2path import cnn

    found = cnn.device_name()
    return _row(
        "GPU",
        "ok" if found else "missing",
        found or "none found",
        "" if found else "the CPU does everything",
    )
