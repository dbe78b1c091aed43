"""Where the network runs, and how much of it at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from her2path.core._optional import available
from her2path.core.errors import UsageError

__all__ = ["batch_for", "choose", "device_name", "limited_threads", "out_of_memory"]

#: patches a batch on a CPU, and at most on a GPU, where nothing else is asked for
CPU_BATCH, GPU_BATCH = 64, 1024
#: share of the free GPU memory that a batch may take
MEMORY_SHARE = 0.5
#: what torch (GPU, CPU) and ONNX Runtime say when memory runs out
_NO_MEMORY = (
    "out of memory", "can't allocate memory", "failed to allocate memory", "bad allocation",
    "bad_alloc",
)  # fmt: skip
#: float32 values alive per input pixel in inference, an upper estimate for the shipped nets
ALIVE_PER_PIXEL = 64


def device_name() -> str | None:
    """Return the name of the GPU that would be used; None without one, or without torch."""
    if not available("torch"):
        return None
    try:
        import torch
    except (ImportError, OSError):
        return None
    return str(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else None


def choose(device: str) -> str:
    """Return ``cpu`` or ``cuda`` for ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    UsageError
        For ``cuda`` where there is none, or another word.
    MissingExtra
        Without torch.
    """
    from her2path.cnn._torch import torch

    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"there is no device {device!r}", "Valid: auto, cpu, cuda")
    has = bool(torch.cuda.is_available())
    if device == "cuda" and not has:
        raise UsageError("no CUDA device was found", "Use --device cpu, or auto")
    return "cuda" if has and device != "cpu" else "cpu"


def batch_for(device: str, batch: int | None, patch_px: int) -> int:
    """Return patches a batch: ``batch``, and on a GPU no more than its free memory allows."""
    if device != "cuda":
        return batch or CPU_BATCH
    from her2path.cnn._torch import torch

    free, _ = torch.cuda.mem_get_info()
    one = patch_px * patch_px * 4 * ALIVE_PER_PIXEL
    return int(max(1, min(batch or GPU_BATCH, free * MEMORY_SHARE // one)))


@contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """Let torch use so many threads inside, and as many as before afterwards."""
    from her2path.cnn._torch import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def out_of_memory(exc: BaseException) -> bool:
    """Tell whether an exception means that there is too little memory, on CPU or GPU."""
    if isinstance(exc, MemoryError):
        return True
    words: Any = str(exc).lower()
    return isinstance(exc, RuntimeError) and any(w in words for w in _NO_MEMORY)
