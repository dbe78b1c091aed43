"""Checkpoints of a training run: safetensors and JSON, nothing pickled."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from her2path.cnn.options import TrainOptions
from her2path.cnn.patches import Patches
from her2path.cnn.weights import Arrays, load_arrays, save_arrays
from her2path.io.store import read_json, write_json
from her2path.io.store.files import make_dir, remove

__all__ = ["Checkpoint", "Progressed", "fingerprint"]

#: options that do not change what is learnt
_FREE = {"device", "resume", "name", "version", "licence", "limits"}


@dataclass(frozen=True)
class Progressed:
    """How far a run is: epochs done, learning curves, the best epoch so far."""

    epoch: int = 0
    best_epoch: int = -1
    best_loss: float = float("inf")
    history: list[dict[str, float]] = field(default_factory=list)

    def with_epoch(self, row: dict[str, float]) -> Progressed:
        """Return it after one more epoch."""
        loss = row["validation_loss"]
        grown = replace(self, epoch=self.epoch + 1, history=[*self.history, row])
        if loss < self.best_loss:
            return replace(grown, best_epoch=self.epoch, best_loss=loss)
        return grown


def fingerprint(patches: Patches, options: TrainOptions) -> str:
    """Return what makes two runs the same: options and patches."""
    told = {k: v for k, v in asdict(options).items() if k not in _FREE}
    told["stains"] = [[*s.white_point, *s.hematoxylin, *s.dab] for s in patches.stains]
    told["window"] = asdict(patches.window)
    found = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for part in (patches.rgb, patches.label, patches.stain):
        found.update(np.ascontiguousarray(part).data)
    found.update("\0".join([*patches.case, *patches.scanner]).encode())
    return found.hexdigest()


class Checkpoint:
    """The folder of a run's checkpoints, beside the model."""

    def __init__(self, folder: Path, mark: str) -> None:
        self.folder, self.mark = folder, mark

    def save(self, state: Progressed, net: Any, optimiser: Any) -> None:
        """Write the state after an epoch; ``state.json`` last, when the files are whole."""
        make_dir(self.folder)
        name = f"epoch{state.epoch:04d}.safetensors"
        save_arrays(self.folder / name, {**_net_arrays(net), **_optimiser_arrays(optimiser)})
        if state.best_epoch == state.epoch - 1:
            save_arrays(self.folder / "best.safetensors", _net_arrays(net))
        values = {**asdict(state), "mark": self.mark, "file": name}
        write_json(self.folder / "state.json", values)
        for old in self.folder.glob("epoch*.safetensors"):
            if old.name != name:
                remove(old)

    def load(self, net: Any, optimiser: Any) -> Progressed:
        """Put the last state of the same run into net and optimiser; start anew without one."""
        path = self.folder / "state.json"
        if not path.is_file():
            return Progressed()
        values = read_json(path)
        if values.pop("mark") != self.mark:
            self.drop()
            return Progressed()
        arrays = load_arrays(self.folder / values.pop("file"))
        _put_net(net, {k[4:]: v for k, v in arrays.items() if k.startswith("net.")})
        _put_optimiser(optimiser, arrays)
        return Progressed(**values)

    def best(self, net: Any) -> None:
        """Put the best epoch's weights into net."""
        arrays = load_arrays(self.folder / "best.safetensors")
        _put_net(net, {k[4:]: v for k, v in arrays.items()})

    def drop(self) -> None:
        """Remove the folder."""
        remove(self.folder)


def net_state(net: Any) -> Arrays:
    """Return a network's values as arrays."""
    return {k: v.detach().cpu().numpy() for k, v in net.state_dict().items()}


def _net_arrays(net: Any) -> Arrays:
    return {f"net.{k}": v for k, v in net_state(net).items()}


def _put_net(net: Any, arrays: Arrays) -> None:
    from her2path.cnn._torch import torch

    net.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in arrays.items()})


def _optimiser_arrays(optimiser: Any) -> Arrays:
    state = optimiser.state_dict()["state"]
    return {f"opt.{i}.{k}": v.cpu().numpy() for i, s in state.items() for k, v in s.items()}


def _put_optimiser(optimiser: Any, arrays: Arrays) -> None:
    from her2path.cnn._torch import torch

    state: dict[int, dict[str, Any]] = {}
    for name, value in arrays.items():
        if name.startswith("opt."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = torch.from_numpy(value.copy())
    if state:
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
