"""A model at work: patches around points, in batches, as probabilities or features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.cnn.card import Card
from her2path.cnn.ordinal import LOGITS, probabilities
from her2path.cnn.patches import CHANNELS, Read, Window, cut, planes
from her2path.cnn.weights import check_model, load_arrays
from her2path.errors import InputError, ProgramFault
from her2path.settings import Settings
from her2path.stain import StainModel
from her2path.stain.model import unit

__all__ = ["Scorer", "load_state"]

#: rows of the points, and their patches
Group = tuple[NDArray[np.int64], NDArray[np.uint8]]
#: probabilities are rounded to this: what lies below differs between machines
DECIMALS = 4


class Scorer:
    """A loaded model.

    Use `load`. ``card`` says what it is, ``sha256`` which weights.
    """

    def __init__(self, card: Card, net: Any, device: str, batch: int) -> None:
        self.card, self.device, self.batch = card, device, batch
        self._net = net

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
        cls, model: str | Path, device: str = "auto", batch: int = 64, precision: str = "fp32"
    ) -> Scorer:
        """Load a model.

        Parameters
        ----------
        model : str or path
            ``builtin``, or the path of a ``.safetensors`` file with its card beside it.
        device : {"auto", "cpu", "cuda"}
        batch : int
            Patches at once; fewer where memory runs out.
        precision : {"fp32", "bf16"}
            bf16 changes probabilities by up to about 0.01; worth it only where it was timed.

        Raises
        ------
        MissingExtra
            Without torch.
        UsageError
            For a missing model, a pickle, or a device that is not there.
        InputError
            For a wrong hash, a damaged card, or weights that do not fit the network.
        """
        from her2path.cnn._torch import torch  # first: its absence is said before anything else
        from her2path.cnn.device import batch_for, choose

        path, card = check_model(model)
        where = choose(device)
        net = _network(card)
        load_state(net, load_arrays(path), path)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        net = net.eval().to(where, dtype=dtype, memory_format=torch.channels_last)
        return cls(card, net, where, batch_for(where, batch, card.patch_px))

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
        logits = self._run(read, centres_px, mpp, stain, progress, features=False)
        p = probabilities(logits, self.card.temperature)
        return np.round(p, DECIMALS).astype(np.float32)

    def embed(
        self,
        read: Read,
        centres_px: NDArray[Any],
        mpp: float,
        stain: StainModel | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Return the features before the last layer, float32 (N, D); see `score_points`."""
        return self._run(read, centres_px, mpp, stain, progress, features=True)

    def score_patches(self, rgb: NDArray[np.uint8], stain: StainModel) -> NDArray[np.float32]:
        """Return probabilities (N, 4) of patches uint8 (N, P, P, 3) at the model's pixel size."""
        logits = self._forward(planes(rgb, stain, self.card.channels), features=False)
        return probabilities(logits, self.card.temperature).astype(np.float32)

    def _run(
        self,
        read: Read,
        centres_px: NDArray[Any],
        mpp: float,
        stain: StainModel | None,
        progress: Callable[[int, int], None] | None,
        features: bool,
    ) -> NDArray[np.float32]:
        model = stain or usual_stain()
        self.window.source_px(mpp)  # a slide that is too coarse is refused with no points too
        n, done = len(centres_px), 0
        if n == 0:
            return self._forward(planes(self._blank(), model, self.card.channels), features)[:0]
        parts, order = [], []
        for rows, rgb in self._filled(cut(read, np.asarray(centres_px), mpp, self.window)):
            parts.append(self._forward(planes(rgb, model, self.card.channels), features))
            order.append(rows)
            done += len(rows)
            if progress is not None:
                progress(done, n)
        out = np.empty((n, parts[0].shape[1]), np.float32)
        out[np.concatenate(order)] = np.concatenate(parts)
        return out

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

    def _forward(self, x: NDArray[np.float32], features: bool) -> NDArray[np.float32]:
        parts, at = [], 0
        while at < len(x):
            try:
                parts.append(self._batch(x[at : at + self.batch], features))
                at += self.batch
            except (RuntimeError, MemoryError) as exc:
                self._smaller(exc)
        return np.concatenate(parts) if parts else np.zeros((0, LOGITS), np.float32)

    def _batch(self, x: NDArray[np.float32], features: bool) -> NDArray[np.float32]:
        from her2path.cnn._torch import torch

        with torch.inference_mode():
            t = torch.from_numpy(np.ascontiguousarray(x)).to(
                self.device, dtype=next(self._net.parameters()).dtype,
                memory_format=torch.channels_last,
            )
            y = self._net.features(t)
            found = y if features else self._net.head(y)
            return np.asarray(found.float().cpu().numpy(), np.float32)

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
