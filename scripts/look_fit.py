"""The small net that looks at pixels (`her2path.tumour.look`): its drawings, and its fit.

The net learns from drawings of its own, of three generators; the trees of `fit_tumour.py` are
fitted on others, so that they see verdicts on slides that the net does not know. Real cores take
no part here. Every drawing also goes in once as another slide might show it: blurred, noisy,
stains mixed, paler or darker ground, larger or smaller.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from drawn_phantoms import STYLES as OUTLINED
from pictures import Picture, Stains, outlined_picture, own_picture, plain_picture, stains
from plain_phantoms import FITTED
from torch import nn
from tumour_samples import IGNORED, Cells, find, label, raw_columns

from her2path.nuclei.table import Nuclei
from her2path.tumour.look import SIDE, patches
from her2path.tumour.weights import LAYERS

#: drawings: seeds of this program's phantoms, and of each style of the others
OWN, PLAIN, DRAWN = range(20000, 20700), range(2000, 2060), range(2000, 2060)
#: weight of a drawing by its kind
KINDS = {"own": 1.5, "plain": 1.0, "outlined": 0.7}
EPOCHS, BATCH, RATE = 8, 256, 3e-3
#: channels of the two convolutions, values of the hidden layer
WIDTHS = (24, 40, 48)


def other_slide(seen: Stains, rng: np.random.Generator) -> Stains:
    """Return the planes as another slide might show them."""
    h, d = seen.h, seen.d
    if blur := float(rng.choice([0, 0, 0.5, 0.8, 1.2])):
        h, d = (cv2.GaussianBlur(p, (0, 0), blur) for p in (h, d))
    noise = rng.choice([0, 0.01, 0.03])
    h, d = (p + noise * rng.standard_normal(p.shape) for p in (h, d))
    h = h + rng.uniform(-0.02, 0.03)
    h, d = h + rng.uniform(-0.08, 0.08) * d, d + rng.uniform(-0.06, 0.06) * h
    h = np.sign(h) * (np.abs(h) / 0.3) ** np.exp(rng.uniform(-0.3, 0.3)) * 0.3
    mpp = seen.mpp * rng.uniform(0.87, 1.15)
    return Stains(h.astype(np.float32), d.astype(np.float32), mpp, seen.contrast)


def _drawings(without: tuple[str, ...]) -> Iterable[tuple[str, str, Any]]:
    """Name the drawings: kind, name, and a function that makes the picture."""
    if "own" not in without:
        for seed in OWN:
            yield "own", f"own{seed}", lambda s=seed: own_picture(s)
    for style in (s for s in FITTED if s not in without):
        for seed in PLAIN:
            yield "plain", f"{style}{seed}", lambda s=seed, t=style: plain_picture(s, t)
    for style in (s for s in OUTLINED if s not in without):
        for seed in DRAWN:
            name = f"outlined-{style}{seed}"
            yield "outlined", name, lambda s=seed, t=style: outlined_picture(s, t)


def _drawn(kind: str, name: str, picture: Picture) -> dict[str, Any]:
    """Return what is kept of a picture: planes and contours in half precision, labels, weights."""
    seen = stains(picture)
    found = find(seen)
    cells = Cells(kind, name, raw_columns(found, seen.mpp), picture.truth)
    what, weight = label(cells)
    use = what != IGNORED
    weight = weight[use] * KINDS[kind] * np.sqrt(400 / max(1, use.sum()))
    half = {"h": seen.h, "d": seen.d, "radii": found.radii[use]}
    kept = {"mpp": seen.mpp, "x": found.x[use], "y": found.y[use], "what": what[use]}
    return kept | {k: v.astype(np.float16) for k, v in half.items()} | {"weight": weight}


def _seen(name: str, kept: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return patches, labels and weights of a drawing, as it is and as on another slide."""
    h, d, radii = (kept[k].astype(np.float32) for k in ("h", "d", "radii"))
    none = np.zeros(len(radii), np.float32)
    found = Nuclei(**(dict.fromkeys(Nuclei.__dataclass_fields__, none)
                      | {"x": kept["x"], "y": kept["y"], "radii": radii}))  # fmt: skip
    seen = Stains(h, d, float(kept["mpp"]), None)
    slides = seen, other_slide(seen, np.random.default_rng(zlib.crc32(name.encode())))
    shown = [patches(found, s.h, s.d, s.mpp).astype(np.float16) for s in slides]
    return {
        "patches": np.concatenate(shown),
        "what": np.tile(kept["what"], 2),
        "weight": np.tile(kept["weight"].astype(np.float32), 2),
    }


def samples(folder: Path, without: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Return all patches (n, channels, side, side), labels and weights; drawings are cached."""
    parts = []
    for kind, name, make in _drawings(without):
        path = folder / f"look_{name}.npz"
        if not path.exists():
            np.savez(path.with_suffix(".part.npz"), **_drawn(kind, name, make()))
            path.with_suffix(".part.npz").rename(path)
        with np.load(path) as saved:
            parts.append(_seen(name, dict(saved)))
    return {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}


def network() -> nn.Sequential:
    """Return the net, unfitted: what `her2path.tumour._look.see` computes."""
    first, second, hidden = WIDTHS
    deep = (SIDE - 4) // 4 - 1
    return nn.Sequential(
        nn.Conv2d(3, first, 4, stride=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(second * deep * deep, hidden), nn.ReLU(), nn.Linear(hidden, 3),
    )  # fmt: skip


def _turned(shown: torch.Tensor) -> torch.Tensor:
    """Turn or mirror a batch."""
    for axis in (2, 3):
        if torch.rand(1) < 0.5:
            shown = shown.flip(axis)
    return shown.transpose(2, 3) if torch.rand(1) < 0.5 else shown


def fit(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Fit the net; return its arrays by the names of `LAYERS`. One thread, one seed, one result."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = network()
    shown, weight = torch.from_numpy(data["patches"]), torch.from_numpy(data["weight"])
    what = torch.from_numpy(data["what"].astype(np.int64))
    batches = len(what) // BATCH
    step = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=1e-3)
    pace = torch.optim.lr_scheduler.OneCycleLR(step, RATE, total_steps=EPOCHS * batches)
    loss_of = nn.CrossEntropyLoss(reduction="none", label_smoothing=0.02)
    for epoch in range(EPOCHS):
        order, total = torch.randperm(len(what)), 0.0
        for some in order[: batches * BATCH].split(BATCH):
            loss = (loss_of(net(_turned(shown[some].float())), what[some]) * weight[some]).mean()
            step.zero_grad()
            loss.backward()
            step.step()
            pace.step()
            total += loss.item()
        print(f"net, epoch {epoch}: loss {total / batches:.4f}", flush=True)
    return dict(zip(LAYERS, (p.detach().numpy() for p in net.parameters()), strict=True))
