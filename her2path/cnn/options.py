"""What a training run is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["TrainOptions"]


@dataclass(frozen=True)
class TrainOptions:
    """How a model is trained.

    Parameters
    ----------
    name, version : str
        For the card.
    architecture : str
        A name of `registry.architectures`.
    arguments : dict
        For its constructor; they go into the card.
    channels : {"h_dab", "od"}
        Planes that the network sees.
    guideline : str
        Rule set of the labels.
    epochs, batch, patience : int
        Passes over the patches; patches a step; epochs without gain until it stops.
    rate : float
        Highest learning rate.
    seed : int
        Of split, weights, order and augmentation.
    device : {"auto", "cpu", "cuda"}
    resume : bool
        Go on from a checkpoint of the same run.
    licence : str
        Of the weights, for the card.
    limits : tuple of str
        What a user should know, for the card.
    """

    name: str = "model"
    version: str = "1"
    architecture: str = "small"
    arguments: dict[str, Any] = field(default_factory=dict)
    channels: Literal["h_dab", "od"] = "h_dab"
    guideline: str = "asco_cap_2018"
    epochs: int = 30
    batch: int = 64
    patience: int = 6
    rate: float = 3e-3
    seed: int = 0
    device: str = "auto"
    resume: bool = True
    licence: str = "as its training data"
    limits: tuple[str, ...] = ()
