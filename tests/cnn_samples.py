"""Small phantoms and models for the CNN's tests."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from her2path import cnn
from her2path.phantom import TUMOURS, PhantomSpec, make_phantom, random_spec

RECIPE = cnn.Recipe(window=cnn.Window(96, 0.5), per_slide=9)
MIXTURES = ("unstained", "1+", "2+", "3+")


def spec(seed: int, mixture: str, **fixed: object) -> PhantomSpec:
    """Return a small homogeneous phantom of one score."""
    told = {
        "width_um": 150.0,
        "height_um": 150.0,
        "margin_um": 4.0,
        "layout": "homogeneous",
        "tumour_share": 0.85,
        "mpp": 0.5,
        "second": {},
        "second_fraction": 0.0,
        "strength": 2.6,
        "mixture": TUMOURS[mixture],
        **fixed,
    }
    return random_spec(seed, **told)


@lru_cache(maxsize=2)
def patches(cases: int = 24) -> cnn.Patches:
    """Return patches of ``cases`` phantoms, the four scores by turns, on four scanners."""
    parts = []
    for seed in range(cases):
        one = make_phantom(spec(seed, MIXTURES[seed % 4]))
        names = (f"case{seed}", f"scanner{seed // 4 % 4}")
        parts.append(cnn.from_phantom_pixels(one.rgb, 0.5, one.truth, names, RECIPE))
    return cnn.join(parts)


def model(path: Path, epochs: int = 1, **told: object) -> cnn.Card:
    """Train a tiny model for so few epochs that it knows nothing."""
    options = {"architecture": "tiny", "epochs": epochs, "batch": 64, "device": "cpu", **told}
    return cnn.fit(patches(), path, cnn.TrainOptions(**options))


def noise_patches(cases: int = 8, each: int = 8) -> cnn.Patches:
    """Return patches of noise: for everything that is not about learning."""
    rng = np.random.default_rng(0)
    n = cases * each
    base = patches()
    return cnn.Patches(
        rng.integers(80, 240, (n, 32, 32, 3)).astype(np.uint8),
        np.arange(n) % 4,
        np.array([f"c{i // each}" for i in range(n)]),
        np.full(n, "s"),
        np.zeros(n, np.int64),
        base.stains[:1],
        cnn.Window(32, 0.5),
        {},
        "noise",
    )
