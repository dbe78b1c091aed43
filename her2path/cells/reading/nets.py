"""The two nets that ship, run by ONNX Runtime; nothing else imports it for the reading.

Each net is one ONNX file beside this module, with a card (JSON) that says what made it, from what,
its hash and its figures. Sessions use one thread: the blocks are what runs side by side.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.core.errors import ProgramFault

__all__ = ["NETS", "card", "run_finder", "run_reader", "weights_sha256"]

F32 = NDArray[np.float32]

#: the nets, in the order in which they see a cell
NETS = ("finder", "reader")
FOLDER = Path(__file__).with_name("weights")
#: cells that the reader sees at a time; the last batch is filled up
BATCH = 64

#: sessions by net and process: a fork must not use its parent's
_sessions: dict[tuple[str, int], Any] = {}


def card(net: str) -> dict[str, Any]:
    """Return what is known of a net: what made it, from what, its hash and figures."""
    known: dict[str, Any] = json.loads((FOLDER / f"{net}.json").read_text(encoding="utf-8"))
    return known


@lru_cache(1)
def weights_sha256() -> str:
    """Return one hash of all nets of the reading; part of a run's fingerprint."""
    together = hashlib.sha256()
    for net in NETS:
        together.update((FOLDER / f"{net}.onnx").read_bytes())
    return together.hexdigest()


def _session(net: str) -> Any:
    key = (net, os.getpid())
    if key not in _sessions:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        # memory goes back after a block: windows differ in size at the slide's edge
        options.enable_mem_pattern = False
        data = (FOLDER / f"{net}.onnx").read_bytes()
        if hashlib.sha256(data).hexdigest() != card(net)["sha256"]:
            raise ProgramFault(
                f"the weights {net}.onnx are not those of their card", "Install her2path again"
            )
        _sessions[key] = onnxruntime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"]
        )
    return _sessions[key]


def run_finder(x: F32) -> tuple[F32, F32, F32]:
    """Run the finder on one window.

    Parameters
    ----------
    x : float32 (4, R, C)
        See `inputs.grid_inputs`; R and C are 64 more than multiples of 8.

    Returns
    -------
    heat : float32 (R - 64, C - 64)
        Log odds that a nucleus is centred there.
    kind : float32 (3, (R - 64) / 2, (C - 64) / 2)
        Logits of tumour, other, nothing.
    features : float32 (24, (R - 64) / 2, (C - 64) / 2)
    """
    heat, kind, features = _session("finder").run(None, {"x": x[None]})
    return heat[0, 0], kind[0], features[0]


def run_reader(x: F32, features: F32) -> tuple[F32, F32, F32]:
    """Run the reader on cells.

    Parameters
    ----------
    x : float32 (N, 4, 30, 32)
        See `inputs.to_channels`; places wrapped around at both ends.
    features : float32 (N, 24)
        The finder's, at the cells.

    Returns
    -------
    edges : float32 (N, 2, 24, 16)
        Logits over the radius of the border, and of the nuclear edge.
    own : float32 (N, 24)
        Log odds that the own membrane is stained.
    verdict : float32 (N, 5)
        Logits of tumour, other, nothing; log odds of any staining, and of a complete membrane.
    """
    n = len(x)
    parts: list[list[F32]] = [[], [], []]
    session = _session("reader")
    # batches of one size: what a cell reads must not hang on how many others there are
    for first in range(0, n, BATCH):
        some = x[first : first + BATCH]
        near = features[first : first + BATCH]
        if len(some) < BATCH:
            some = np.concatenate([some, np.zeros((BATCH - len(some), *x.shape[1:]), np.float32)])
            near = np.concatenate([near, np.zeros((BATCH - len(near), near.shape[1]), np.float32)])
        said = session.run(None, {"x": some, "features": np.ascontiguousarray(near)})
        for part, values in zip(parts, said, strict=True):
            part.append(values[: n - first])
    if not n:
        return (
            np.zeros((0, 2, 24, 16), np.float32), np.zeros((0, 24), np.float32),
            np.zeros((0, 5), np.float32),
        )  # fmt: skip
    edges, own, verdict = (np.concatenate(part) for part in parts)
    return edges, own, verdict
