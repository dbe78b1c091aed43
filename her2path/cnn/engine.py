"""What turns planes into features and logits: torch, or ONNX Runtime where it is installed."""

from __future__ import annotations

import io
import logging
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from her2path.cnn.card import Card
from her2path.cnn.patches import CHANNELS
from her2path.core._optional import available, require
from her2path.core.errors import MissingExtra, UsageError, one_line

__all__ = ["PRECISIONS", "RUNTIMES", "Engine", "OnnxEngine", "TorchEngine", "faster", "make_engine"]

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
RUNTIMES = ("auto", "torch", "onnxruntime")
PRECISIONS = ("fp32", "bf16", "auto")
#: bf16 must be so much faster before its rounding is accepted
WORTH = 1.2
ROUNDS = 3
#: patches that precisions are timed on
TIMED = 32


class Engine(Protocol):
    """A network ready to run; ``name`` and ``precision`` say how."""

    name: str
    precision: str

    def run(self, x: Floats) -> tuple[Floats, Floats]:
        """Return features (N, D) and logits (N, 3) of planes (N, C, P, P)."""
        ...


class TorchEngine:
    """torch in inference mode, channels last; on CUDA bf16 is mixed precision (autocast)."""

    name = "torch"

    def __init__(self, net: Any, device: str, precision: str = "fp32") -> None:
        from her2path.cnn._torch import torch

        self.device, self.precision = device, precision
        self._mixed = precision == "bf16" and device == "cuda"
        cast = precision == "bf16" and device == "cpu"
        self._dtype = torch.bfloat16 if cast else torch.float32
        self._net = net.eval().to(device, dtype=self._dtype, memory_format=torch.channels_last)

    def run(self, x: Floats) -> tuple[Floats, Floats]:
        """Return features (N, D) and logits (N, 3) of planes (N, C, P, P)."""
        from her2path.cnn._torch import torch

        with torch.inference_mode(), self._context():
            t = torch.from_numpy(np.ascontiguousarray(x)).to(
                self.device, dtype=self._dtype, memory_format=torch.channels_last
            )
            features = self._net.features(t)
            logits = self._net.head(features)
            return features.float().cpu().numpy(), logits.float().cpu().numpy()

    def _context(self) -> Any:
        """Mixed precision, or full fp32: TF32 would round what CPU and CUDA should agree on."""
        from her2path.cnn._torch import torch

        if self.device != "cuda":
            return nullcontext()
        if self._mixed:
            return torch.autocast("cuda", torch.bfloat16)
        return torch.backends.cudnn.flags(allow_tf32=False)


class OnnxEngine:
    """ONNX Runtime on the CPU; the export is made in memory from checked weights."""

    name, precision = "onnxruntime", "fp32"

    def __init__(self, net: Any, channels: int, patch_px: int) -> None:
        from her2path.cnn._torch import torch

        runtime = require("onnxruntime", "cnn.runtime=onnxruntime")
        require("onnx", "cnn.runtime=onnxruntime")
        told = runtime.SessionOptions()
        told.intra_op_num_threads = torch.get_num_threads()
        # threads that wait busily take the cores from whoever else works here
        told.add_session_config_entry("session.intra_op.allow_spinning", "0")
        made = _export(net, channels, patch_px)
        self._session = runtime.InferenceSession(made, told, providers=["CPUExecutionProvider"])

    def run(self, x: Floats) -> tuple[Floats, Floats]:
        """Return features (N, D) and logits (N, 3) of planes (N, C, P, P)."""
        try:
            features, logits = self._session.run(None, {"x": np.ascontiguousarray(x)})
        except Exception as exc:  # its classes are its own; what ran out of memory says so
            raise RuntimeError(str(exc)) from exc
        return features, logits


def _export(net: Any, channels: int, patch_px: int) -> bytes:
    """Return the network as ONNX with two outputs."""
    from her2path.cnn._torch import nn, torch

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Any) -> Any:
            features = self.net.features(x)
            return features, self.net.head(features)

    buffer = io.BytesIO()
    one = torch.zeros(1, channels, patch_px, patch_px)
    names = {"input_names": ["x"], "output_names": ["features", "logits"]}
    free = {n: {0: "n"} for n in ("x", "features", "logits")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own successor
        torch.onnx.export(Both().eval(), (one,), buffer, dynamo=False, dynamic_axes=free, **names)
    return buffer.getvalue()


def make_engine(make: Callable[[], Any], card: Card, device: str, how: tuple[str, str]) -> Engine:
    """Return the engine that a runtime and a precision ask for.

    Parameters
    ----------
    make : callable
        Returns the network with its weights, a new one each time.
    card : Card
        Of the model.
    device : {"cpu", "cuda"}
    how : (runtime, precision)
        Of `RUNTIMES` and `PRECISIONS`. With precision ``auto`` bf16 is taken where it is timed,
        here and now, to be at least `WORTH` times as fast.

    Raises
    ------
    UsageError
        For an unknown word, or ONNX Runtime together with CUDA or bf16.
    MissingExtra
        Where ONNX Runtime is asked for and not installed.
    """
    runtime, precision = how
    if runtime not in RUNTIMES or precision not in PRECISIONS:
        raise UsageError(
            f"there is no runtime {runtime!r} with precision {precision!r}",
            f"Runtimes: {', '.join(RUNTIMES)}; precisions: {', '.join(PRECISIONS)}",
        )
    if runtime == "onnxruntime" and (device != "cpu" or precision == "bf16"):
        raise UsageError(
            "cnn.runtime=onnxruntime runs on the CPU in fp32", "Use cnn.runtime=torch, or auto"
        )
    if precision == "bf16":
        return TorchEngine(make(), device, "bf16")
    exact = _exact(make, card, device, runtime)
    if precision == "fp32" or runtime == "onnxruntime":
        return exact
    quick = TorchEngine(make(), device, "bf16")
    shape = (TIMED, CHANNELS[card.channels], card.patch_px, card.patch_px)
    return faster(exact, quick, np.zeros(shape, np.float32))


def _exact(make: Callable[[], Any], card: Card, device: str, runtime: str) -> Engine:
    here = device == "cpu" and available("onnxruntime") and available("onnx")
    if runtime == "torch" or (runtime == "auto" and not here):
        return TorchEngine(make(), device)
    try:
        return OnnxEngine(make(), CHANNELS[card.channels], card.patch_px)
    except MissingExtra:
        raise
    except Exception as exc:  # a network of one's own may use what ONNX does not have
        if runtime == "onnxruntime":
            raise UsageError(
                f"the network {card.architecture!r} cannot run in ONNX Runtime ({one_line(exc)})",
                "Use cnn.runtime=torch",
            ) from exc
        log.info("ONNX Runtime is not used: %s", one_line(exc))
        return TorchEngine(make(), device)


def faster(
    exact: Engine, quick: Engine, x: Floats, clock: Callable[[], float] = time.perf_counter
) -> Engine:
    """Return ``quick`` where it beats ``exact`` by `WORTH` in interleaved rounds, else ``exact``.

    Parameters
    ----------
    exact, quick : Engine
    x : float32 (N, C, P, P)
        What both are timed on.
    clock : callable
        Seconds.
    """
    least = [float("inf"), float("inf")]
    for _ in range(ROUNDS + 1):  # the first is for warming up, and can only be slower
        for k, one in enumerate((exact, quick)):
            begun = clock()
            one.run(x)
            least[k] = min(least[k], clock() - begun)
    return quick if least[1] * WORTH < least[0] else exact
