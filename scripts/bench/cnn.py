"""Time the CNN's forward pass: patches a second of the clock and of processor time.

    python -m scripts.bench.cnn                 # the shipped model, 1 and 2 threads
    python -m scripts.bench.cnn --model MODEL --rounds 20

Ways are run in turn in every round and their medians compared; on a busy machine only processor
time means anything. ONNX Runtime (`pip install 'her2path[onnx]'`) and OpenVINO (which the program
does not use) are timed where they are installed. The greatest difference of a logit from plain
fp32 is told beside.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from her2path import cnn
from her2path.cnn.engine import Engine, OnnxEngine, TorchEngine, _export
from her2path.cnn.infer import load_state
from her2path.cnn.patches import CHANNELS
from her2path.cnn.registry import build
from her2path.cnn.weights import check_model, load_arrays
from her2path.core._optional import available

PATCHES = 64


class Contiguous(TorchEngine):
    """torch without channels_last, for comparison."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__(net, "cpu")
        self._net = self._net.to(memory_format=torch.contiguous_format)

    def run(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return features and logits."""
        with torch.inference_mode():
            features = self._net.features(torch.from_numpy(x))
            return features.numpy(), self._net.head(features).numpy()


class OpenVino:
    """OpenVINO on the same export."""

    name = "openvino"

    def __init__(self, net: torch.nn.Module, card: cnn.Card, precision: str) -> None:
        import openvino

        self.precision = precision
        told = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": precision,
        }  # fmt: skip
        made = _export(net, CHANNELS[card.channels], card.patch_px)
        model = openvino.Core().read_model(made)
        self._request = openvino.Core().compile_model(model, "CPU", told).create_infer_request()

    def run(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return features and logits."""
        found = self._request.infer({0: x})
        return found[0].copy(), found[1].copy()


def ways(model: str) -> dict[str, Engine]:
    """Return every way that this machine has to run a model."""
    path, card = check_model(model)
    arrays = load_arrays(path)

    def make() -> torch.nn.Module:
        net = build(card.architecture, CHANNELS[card.channels], 3, card.arguments)
        load_state(net, arrays, path)
        return net.eval()

    found: dict[str, Engine] = {
        "torch fp32, contiguous": Contiguous(make()),
        "torch fp32, channels_last": TorchEngine(make(), "cpu"),
        "torch bf16, channels_last": TorchEngine(make(), "cpu", "bf16"),
    }
    if available("onnxruntime") and available("onnx"):
        found["ONNX Runtime fp32"] = OnnxEngine(make(), CHANNELS[card.channels], card.patch_px)
    if available("openvino") and available("onnx"):
        found["OpenVINO fp32"] = OpenVino(make(), card, "f32")
        found["OpenVINO bf16"] = OpenVino(make(), card, "bf16")
    return found


def times(run: Callable[[], object]) -> tuple[float, float]:
    """Return seconds of the clock and of the processor."""
    wall, busy = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - busy


def main() -> None:
    """Read the command line, and time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    told = parser.parse_args()
    card = check_model(told.model)[1]
    shape = (PATCHES, CHANNELS[card.channels], card.patch_px, card.patch_px)
    x = np.random.default_rng(0).random(shape, np.float32)
    for threads in told.threads:
        torch.set_num_threads(threads)
        engines = ways(told.model)
        plain = next(iter(engines.values())).run(x)[1]
        rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}
        for _ in range(told.rounds + 1):
            for name, engine in engines.items():
                rounds[name].append(times(partial(engine.run, x)))
        for name, engine in engines.items():
            wall, busy = (PATCHES / np.median(k) for k in zip(*rounds[name][1:], strict=True))
            apart = float(np.abs(engine.run(x)[1] - plain).max())
            print(
                f"{threads} thread(s)  {name:26s} {wall:7.0f} /s  {busy:7.0f} /processor s  "
                f"logits within {apart:.4f}", flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
