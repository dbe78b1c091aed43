"""The making of a phantom, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path.phantom.artefacts import Covers, add_artefacts
from her2path.phantom.cells import assign_kinds, settle_completeness, stain_membranes
from her2path.phantom.layout import lay_out
from her2path.phantom.nuclei import tumour_nuclei
from her2path.phantom.paint import Painter, Scene, add_camera_noise
from her2path.phantom.spec import PhantomSpec
from her2path.phantom.stroma import make_stroma
from her2path.phantom.truth import area_truth, region_table, truth_table


@dataclass(frozen=True)
class Phantom:
    """A synthetic H-DAB image whose truth is known.

    Attributes
    ----------
    rgb : (H, W, 3) uint8 array
        The image as the camera saw it, before JPEG.
    truth : pyarrow.Table
        One row a cell (`her2path.phantom.TRUTH_SCHEMA`).
    regions : pyarrow.Table
        One row a 500 um square: tumour cells and pattern fractions.
    areas : dict
        Areas (mm2), counts, fractions and H-score of the whole image.
    spec : PhantomSpec
    covers : Covers
        Where artefacts lie, masks of 2 um per sample.
    """

    rgb: NDArray[np.uint8]
    truth: pa.Table
    regions: pa.Table
    areas: dict[str, Any]
    spec: PhantomSpec
    covers: Covers = field(default_factory=lambda: Covers({}))


def make_phantom(spec: PhantomSpec) -> Phantom:
    """Return the phantom of a specification; the same for the same one.

    Parameters
    ----------
    spec : PhantomSpec

    Returns
    -------
    Phantom
    """
    ground, bodies = lay_out(spec)
    kinds = assign_kinds(spec, bodies)
    stain = stain_membranes(spec, bodies, kinds.pattern)
    kinds = settle_completeness(kinds, stain)
    nuclei = tumour_nuclei(spec, bodies)
    stroma = make_stroma(spec, ground, nuclei.values)
    scene = Scene(ground, bodies, stain, nuclei.values, stroma)
    image = Painter(spec, scene).paint()
    covers = add_artefacts(spec, image)
    add_camera_noise(spec, image)
    truth = truth_table(spec, scene, kinds, nuclei, covers)
    return Phantom(
        rgb=image,
        truth=truth,
        regions=region_table(spec, truth),
        areas=area_truth(spec, ground, truth),
        spec=spec,
        covers=covers,
    )
