"""A model at work: patches around points, in batches, as probabilities or features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.cells.stain import StainModel
from her2path.cells.stain.model import unit
from her2path.cnn.card import Card
from her2path.cnn.engine import Engine, make_engine
from her2path.cnn.ordinal import LOGITS, probabilities
from her2path.cnn.patches import CHANNELS, Read, Window, cut, planes
from her2path.cnn.weights import check_model, load_arrays
from her2path.core.errors import InputError, ProgramFault
from her2path.core.settings import Settings

__all__ = ["Looked", "Scorer", "load_state"]

#: rows of the points, and their patches
Group = tuple[NDArray[np.int64], NDArray[np.uint8]]
#: probabilities are rounded to this: what lies below differs between machines
DECIMALS = 4


@dataclass(frozen=True)
class Looked:
    """What a model saw around N points: ``p`` float32 (N, 4), ``features`` float32 (N, D)."""

    p: NDArray[np.float32]
    features: NDArray[np.float32]


class Scorer:
    """A loaded model.

    Use `load`. ``card`` says what it is, ``sha256`` which weights, ``engine`` how it runs.
    """

    def __init__(self, card: Card, engine: Engine, device: str, batch: int) -> None:
        self.card, self.device, self.batch, self.engine = card, device, batch, engine

    @property
    def sha256(self) -> str:
        """Fingerprint of the weights."""
        return self.card.sha256

    @property
    def window(self) -> Window:
        """What a patch shows."""
        return Window(self.card.patch_px, self.card.mpp)

    @classmethod
    def load(
        cls,
        model: str | Path,
        device: str = "auto",
        batch: int | None = None,
        precision: str = "fp32",
        runtime: str = "auto",
    ) -> Scorer:
        """Load a model.

        Parameters
        ----------
        model : str or path
            ``builtin``, or the path of a ``.safetensors`` file with its card beside it.
        device : {"auto", "cpu", "cuda"}
        batch : int, optional
            Patches at once; fewer where memory runs out. Not given: 64 on a CPU, and on a GPU as
            many as fit into half of its free memory, at most 1024.
        precision : {"fp32", "bf16", "auto"}
            bf16 changes probabilities by up to about 0.01. ``auto`` takes it where it is timed to
            be faster, so that results may differ between machines.
        runtime : {"auto", "torch", "onnxruntime"}
            ``auto``: ONNX Runtime on a CPU where it is installed; the same to 1e-4.

        Raises
        ------
        MissingExtra
            Without torch, or without ONNX Runtime where it is asked for.
        UsageError
            For a missing model, a pickle, a device that is not there, or an unknown word.
        InputError
            For a wrong hash, a damaged card, or weights that do not fit the network.
        """
        from her2path.cnn import _torch  # noqa: F401 - first: its absence is said before the rest
        from her2path.cnn.device import batch_for, choose

        path, card = check_model(model)
        where = choose(device)
        arrays = load_arrays(path)

        def make() -> Any:
            net = _network(card)
            load_state(net, arrays, path)
            return net.eval()

        engine = make_engine(make, card, where, (runtime, precision))
        return cls(card, engine, where, batch_for(where, batch, card.patch_px))

    def look(
        self,
        read: Read,
        centres_px: NDArray[Any],
        mpp: float,
        stain: StainModel | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Looked:
        """Return probabilities and features at once; see `score_points` and `embed`."""
        model = stain or usual_stain()
        self.window.source_px(mpp)  # a slide that is too coarse is refused with no points too
        n, done = len(centres_px), 0
        if n == 0:
            features, logits = self._forward(planes(self._blank(), model, self.card.channels))
            return Looked(self._stated(logits[:0]), features[:0])
        parts, order = [], []
        for rows, rgb in self._filled(cut(read, np.asarray(centres_px), mpp, self.window)):
            parts.append(self._forward(planes(rgb, model, self.card.channels)))
            order.append(rows)
            done += len(rows)
            if progress is not None:
                progress(done, n)
        place = np.argsort(np.concatenate(order))
        features, logits = (np.concatenate(k)[place] for k in zip(*parts, strict=True))
        return Looked(self._stated(logits), features)

    def _stated(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        p = probabilities(logits, self.card.temperature)
        return np.round(p, DECIMALS).astype(np.float32)

    def score_points(
        self,
        read: Read,
        centres_px: NDArray[Any],
        mpp: float,
        stain: StainModel | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Return class probabilities of the patch around every centre.

        Parameters
        ----------
        read : callable
            Level-0 pixels of a box, uint8 (h, w, 3); boxes may reach beyond the slide.
        centres_px : float (N, 2)
            x, y in level-0 pixels.
        mpp : float
            µm per level-0 pixel.
        stain : StainModel, optional
            White point and vectors of the slide; the usual ones where not given.
        progress : callable, optional
            Called with (done, total).

        Returns
        -------
        float32 (N, 4)
            Probabilities of 0, 1+, 2+, 3+, rounded to four decimals.

        Raises
        ------
        InputError
            Where the slide is coarser than the model's pixel size.
        """
        return self.look(read, centres_px, mpp, stain, progress).p

    def embed(
        self,
        read: Read,
        centres_px: NDArray[Any],
        mpp: float,
        stain: StainModel | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Return the features before the last layer, float32 (N, D); see `score_points`."""
        return self.look(read, centres_px, mpp, stain, progress).features

    def score_patches(self, rgb: NDArray[np.uint8], stain: StainModel) -> NDArray[np.float32]:
        """Return probabilities (N, 4) of patches uint8 (N, P, P, 3) at the model's pixel size."""
        _, logits = self._forward(planes(rgb, stain, self.card.channels))
        return probabilities(logits, self.card.temperature).astype(np.float32)

    def _blank(self) -> NDArray[np.uint8]:
        return np.full((1, self.card.patch_px, self.card.patch_px, 3), 240, np.uint8)

    def _filled(self, groups: Iterator[Group]) -> Iterator[Group]:
        """Join groups that were read together until they fill a batch."""
        kept: list[Group] = []
        for group in groups:
            kept.append(group)
            if sum(len(rows) for rows, _ in kept) >= self.batch:
                yield _joined(kept)
                kept = []
        if kept:
            yield _joined(kept)

    def _forward(self, x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return features (N, D) and logits (N, 3) of planes, N at least 1."""
        parts, at = [], 0
        while at < len(x):
            some = x[at : at + self.batch]
            try:
                parts.append(self.engine.run(some))
                at += len(some)
            except (RuntimeError, MemoryError) as exc:
                self._smaller(exc)
        features, logits = (np.concatenate(k) for k in zip(*parts, strict=True))
        return features, logits

    def _smaller(self, exc: BaseException) -> None:
        """Halve the batch where memory ran out; anything else is raised again."""
        from her2path.cnn.device import out_of_memory

        if not out_of_memory(exc):
            raise exc
        if self.batch == 1:
            raise ProgramFault(
                "there is too little memory for one patch", "Use --device cpu, or free memory"
            ) from exc
        self.batch = max(1, self.batch // 2)


def _joined(groups: list[Group]) -> Group:
    rows, rgb = zip(*groups, strict=True)
    return np.concatenate(rows), np.concatenate(rgb)


def usual_stain() -> StainModel:
    """Return the usual H-DAB vectors on a nearly white glass."""
    s = Settings().stain
    return StainModel((243.0, 243.0, 242.0), unit(s.hematoxylin), unit(s.dab), "fallback")


def _network(card: Card) -> Any:
    from her2path.cnn.registry import build

    return build(card.architecture, CHANNELS[card.channels], LOGITS, card.arguments)


def load_state(net: Any, arrays: dict[str, NDArray[Any]], path: Path) -> None:
    """Put arrays into a network.

    Raises
    ------
    InputError
        Where names or shapes do not fit.
    """
    from her2path.cnn._torch import torch

    try:
        net.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in arrays.items()})
    except (RuntimeError, KeyError) as exc:
        raise InputError(
            f"the weights {path} do not fit their network", "Get both files of the model again"
        ) from exc
