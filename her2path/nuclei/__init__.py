"""Nuclei from the hematoxylin plane; the detector is one replaceable part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from her2path.errors import SettingsError
from her2path.nuclei.table import RAYS, Nuclei
from her2path.settings import NucleiSettings

__all__ = [
    "DETECTORS",
    "HALO_UM",
    "RAYS",
    "Detector",
    "Nuclei",
    "are_sure",
    "find_nuclei",
    "typical_contrast",
]

#: context that a nucleus needs on every side, µm: what the detector may look at or be swayed by
HALO_UM: float = 72.0
#: a find counts by itself above this confidence (over the settings' sensitivity)
SURE = 0.2

F32 = npt.NDArray[np.float32]


class Detector(Protocol):
    """Anything that finds nuclei in a block."""

    def find(
        self, h: F32, d: F32, mpp: float, settings: NucleiSettings, origin: tuple[int, int]
    ) -> Nuclei:
        """Return the nuclei of a block; the same for every block that holds their halo.

        Those of a confidence below `SURE` are doubtful: they are for somebody else to judge.
        """
        ...

    def contrast(self, planes: Iterable[tuple[F32, F32]], mpp: float) -> float | None:
        """Return the slide's strong nuclear contrast, OD; None where too little is seen."""
        ...


def _classic() -> Detector:
    # numba is loaded when a detector is first needed, not with the package
    from her2path.nuclei.classic import ClassicDetector

    return ClassicDetector()


#: the detectors by name; each entry makes one
DETECTORS: dict[str, Callable[[], Detector]] = {"classic": _classic}


def find_nuclei(
    h: F32,
    d: F32,
    mpp: float,
    settings: NucleiSettings | None = None,
    origin: tuple[int, int] = (0, 0),
    doubtful: bool = False,
) -> Nuclei:
    """Find the nuclei of a block.

    Parameters
    ----------
    h, d : float32 (H, W)
        Hematoxylin and DAB, OD (base 10).
    mpp : float
        µm per pixel of both planes.
    settings : NucleiSettings, optional
    origin : (int, int)
        Absolute analysis pixel (y, x) of pixel (0, 0).
    doubtful : bool
        Also return what the detector doubts (see `are_sure`), for a second opinion.

    Returns
    -------
    Nuclei
        All whose centre lies in the planes, sorted by (y, x) of their candidate. Those within
        `HALO_UM` of the planes' edge depend on where the block was cut: the caller drops them.

    Raises
    ------
    SettingsError
        For an unknown detector.
    ValueError
        For planes of different shape or a pixel size that is not above 0.
    """
    settings = settings or NucleiSettings.model_validate({})
    if h.shape != d.shape or h.ndim != 2:
        raise ValueError(f"two planes of one shape are needed, not {h.shape} and {d.shape}")
    if not mpp > 0:
        raise ValueError(f"mpp is {mpp}, not above 0")
    h, d = (np.ascontiguousarray(p, dtype=np.float32) for p in (h, d))
    found = _detector(settings).find(h, d, mpp, settings, origin)
    return found if doubtful else found.take(are_sure(found, settings))


def are_sure(found: Nuclei, settings: NucleiSettings) -> npt.NDArray[np.bool_]:
    """Tell which finds (N,) the detector itself is sure enough of."""
    return good_enough(found.confidence, settings)


def good_enough(
    score: npt.NDArray[np.float32], settings: NucleiSettings, least: float = SURE
) -> npt.NDArray[np.bool_]:
    """Tell which scores (N,) are above ``least`` over the settings' sensitivity."""
    return np.asarray(score > np.float32(least / settings.sensitivity))


def typical_contrast(
    planes: Iterable[tuple[F32, F32]], mpp: float, settings: NucleiSettings | None = None
) -> float | None:
    """Return how strongly the clearest nuclei of a slide stand out, for `settings.contrast_od`.

    One number a slide, from a sample of its tissue: with it the score of a contour is also read
    relative to the slide, which removes about a third of the false nuclei where staining is strong.

    Parameters
    ----------
    planes : iterable of (h, d)
        Hematoxylin and DAB OD of sampled tissue, each at least about 100 µm wide.
    mpp : float
        µm per pixel.
    settings : NucleiSettings, optional

    Returns
    -------
    float or None
        OD; None where the sample holds too few candidates.

    Raises
    ------
    SettingsError
        For an unknown detector.
    """
    exact = (tuple(np.ascontiguousarray(p, dtype=np.float32) for p in pair) for pair in planes)
    settings = settings or NucleiSettings.model_validate({})
    return _detector(settings).contrast(((h, d) for h, d in exact), mpp)


def _detector(settings: NucleiSettings) -> Detector:
    make = DETECTORS.get(settings.detector)
    if make is None:
        raise SettingsError(
            f"there is no nucleus detector {settings.detector!r}", f"Valid: {', '.join(DETECTORS)}"
        )
    return make()
