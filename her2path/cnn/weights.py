"""Weights on disk: safetensors only, checked against the card before anything is built."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.cnn.card import Card, read_card
from her2path.cnn.patches import NORMALISATION
from her2path.core.errors import InputError, UsageError
from her2path.io.store.files import atomic_file

__all__ = ["builtin_path", "check_model", "load_arrays", "save_arrays", "sha256_of", "weights_path"]

Arrays = dict[str, NDArray[Any]]
MAX_WEIGHTS_BYTES = 2 << 30
MAX_HEADER_BYTES = 1 << 24
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib"}
_NO_PICKLES = "Pickled weights can run any code: use safetensors, as `her2path train` writes them"


def builtin_path() -> Path:
    """Return the weights that ship with the project."""
    return Path(__file__).parent / "weights" / "builtin.safetensors"


def weights_path(model: str | Path) -> Path:
    """Return the safetensors file that ``builtin``, a path with or without suffix, or a card names.

    Raises
    ------
    UsageError
        For a pickle.
    """
    if str(model) == "builtin":
        return builtin_path()
    path = Path(model)
    if path.suffix.lower() in PICKLES:
        raise UsageError(f"{path} is no safetensors file", _NO_PICKLES)
    if path.suffix == ".safetensors":
        return path
    if path.suffix == ".json":
        return path.with_suffix(".safetensors")
    return Path(f"{path}.safetensors")


def check_model(model: str | Path) -> tuple[Path, Card]:
    """Find a model, read its card and check its weights' hash. Needs no torch.

    Raises
    ------
    UsageError
        Where there is no such model, or it is a pickle.
    InputError
        Where card or weights are damaged, or do not belong together.
    """
    path = weights_path(model)
    if not path.is_file():
        raise UsageError(f"there is no CNN model {str(path)!r}", "Give a path, or --cnn builtin")
    _check_header(path)
    card = read_card(path.with_suffix(".json"))
    found = sha256_of(path)
    if found != card.sha256:
        raise InputError(
            f"the weights {path} are not those of their card (sha256 {found[:12]}, and the card "
            f"says {card.sha256[:12]})",
            "Get both files of the model again",
        )
    told = {k: card.normalisation.get(k) for k in NORMALISATION}
    if told != NORMALISATION:
        raise InputError(
            f"the model {path} was made for other input ({told}, and this program gives "
            f"{NORMALISATION})",
            "Train it again with this version",
        )
    return path, card


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_header(path: Path) -> None:
    """Refuse what is not safetensors, before a library sees it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if head[:2] == b"PK" or head[:1] == b"\x80":
            raise UsageError(f"{path} is a pickle", _NO_PICKLES)
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8) or size > MAX_WEIGHTS_BYTES:
            raise InputError(f"{path} is no safetensors file", "Get the model again")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as exc:
            raise InputError(f"{path} is no safetensors file", "Get the model again") from exc
    if not isinstance(header, dict):
        raise InputError(f"{path} is no safetensors file", "Get the model again")


def save_arrays(path: Path, arrays: Arrays) -> str:
    """Write arrays as safetensors, whole or not at all; return the file's SHA-256."""
    from her2path.cnn._torch import safetensors_numpy

    ordered = {k: np.ascontiguousarray(arrays[k]) for k in sorted(arrays)}
    with atomic_file(path) as part:
        part.write_bytes(safetensors_numpy.save(ordered))
    return sha256_of(path)


def load_arrays(path: Path) -> Arrays:
    """Read arrays from safetensors.

    Raises
    ------
    UsageError, InputError
        Where it is a pickle, or damaged.
    """
    from her2path.cnn._torch import safetensors_numpy

    _check_header(path)
    try:
        found: Arrays = safetensors_numpy.load(path.read_bytes())
    except Exception as exc:  # the library raises its own class and others
        raise InputError(f"{path} is damaged ({exc})", "Get the model again") from exc
    return found
