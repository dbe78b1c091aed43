"""Optional parts, imported in one place with one message."""

from __future__ import annotations

import importlib
from types import ModuleType

from her2path.core.errors import MissingExtra

__all__ = ["EXTRAS", "available", "require"]

#: module -> extra that brings it
EXTRAS: dict[str, str] = {
    "torch": "cnn",
    "safetensors": "cnn",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "distributed": "cluster",
    "highdicom": "dicom",
    "pydicom": "dicom",
    "anndata": "anndata",
    "pandas": "anndata",
    "spatialdata": "spatialdata",
    "weasyprint": "pdf",
    "firthmodels": "cohort",
}


def require(module: str, purpose: str) -> ModuleType:
    """Import an optional module.

    Parameters
    ----------
    module : str
        Dotted module name; its first part is a key of `EXTRAS`.
    purpose : str
        What it is needed for, in words for the message.

    Raises
    ------
    MissingExtra
        When it cannot be imported; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as exc:
        extra = EXTRAS[module.split(".")[0]]
        raise MissingExtra(
            f"{purpose} needs the package {module.split('.')[0]}, which cannot be loaded ({exc})",
            f"Install it with: pip install 'her2path[{extra}]'",
        ) from exc


def available(module: str) -> bool:
    """Tell whether an optional module can be found, without importing it."""
    from importlib.util import find_spec

    return find_spec(module) is not None
