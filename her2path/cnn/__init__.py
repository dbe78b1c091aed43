"""The optional CNN scorer: a second look beside the rule-based score, never in its place.

torch is imported by this package only, and only when a model is loaded or trained; the package
itself imports without it.

::

    scorer = Scorer.load("builtin")
    p = scorer.score_points(slide.read, centres_px, slide.info.mpp, stain)      # (N, 4)
    card = fit(read_source("manifest.csv", Recipe()), "model", TrainOptions())
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from her2path.cnn.card import Card, read_card
from her2path.cnn.device import choose as check_device
from her2path.cnn.device import device_name, limited_threads
from her2path.cnn.infer import Looked, Scorer
from her2path.cnn.manifest import Recipe
from her2path.cnn.options import TrainOptions
from her2path.cnn.patches import Patches, Window, join
from her2path.cnn.registry import architectures, check_network, register
from her2path.cnn.sample import hashed_order, sample_by_region
from her2path.cnn.sources import from_phantom_pixels, read_source
from her2path.cnn.verdict import (
    DISAGREES,
    decide,
    region_probabilities,
    slide_probabilities,
    verdict,
)
from her2path.cnn.weights import check_model, weights_path

__all__ = [
    "DISAGREES",
    "Card",
    "Looked",
    "Patches",
    "Recipe",
    "Scorer",
    "TrainOptions",
    "Window",
    "architectures",
    "check_device",
    "check_model",
    "check_network",
    "decide",
    "device_name",
    "fit",
    "from_phantom_pixels",
    "hashed_order",
    "join",
    "limited_threads",
    "read_card",
    "read_source",
    "region_probabilities",
    "register",
    "sample_by_region",
    "slide_probabilities",
    "verdict",
    "weights_path",
]


def fit(
    patches: Patches,
    model: str | Path,
    options: TrainOptions | None = None,
    progress: Callable[[str, int, int, float], None] | None = None,
) -> Card:
    """Train a model; see `her2path.cnn.train.fit`.

    Raises
    ------
    MissingExtra
        Without torch.
    """
    from her2path.cnn.train import fit as run

    return run(patches, model, options, progress)
