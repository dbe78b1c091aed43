"""The making of a phantom, step by step."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path.phantom.artefacts import Covers, add_artefacts
from her2path.phantom.cells import Kinds, assign_kinds, settle_completeness, stain_membranes
from her2path.phantom.layout import lay_out
from her2path.phantom.nuclei import TumourNuclei, tumour_nuclei
from her2path.phantom.paint import Painter, Scene, add_camera_noise
from her2path.phantom.presets import control_spec
from her2path.phantom.spec import PhantomSpec
from her2path.phantom.stroma import make_stroma
from her2path.phantom.truth import area_truth, region_table, truth_table

#: glass between pieces of tissue
GAP_UM = 30.0


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
    annotations : str
        GeoJSON of the control areas, level-0 pixels; empty without any.
    covers : Covers
        Where artefacts lie, masks of 2 um per sample.
    """

    rgb: NDArray[np.uint8]
    truth: pa.Table
    regions: pa.Table
    areas: dict[str, Any]
    spec: PhantomSpec
    annotations: str = ""
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
    if spec.controls:
        return beside_controls(spec, _single(spec.model_copy(update={"controls": ()})))
    return _single(spec)


class Composed(NamedTuple):
    """One piece of tissue, all that was put in, and the image (H, W, 3) before JPEG."""

    scene: Scene
    kinds: Kinds
    nuclei: TumourNuclei
    covers: Covers
    image: NDArray[np.uint8]


def compose(spec: PhantomSpec) -> Composed:
    """Draw one piece of tissue; ``spec.controls`` are not asked."""
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
    return Composed(scene, kinds, nuclei, covers, image)


def _single(spec: PhantomSpec) -> Phantom:
    """Return a phantom of one piece of tissue."""
    made = compose(spec)
    truth = truth_table(spec, made.scene, made.kinds, made.nuclei, made.covers)
    return Phantom(
        rgb=made.image,
        truth=truth,
        regions=region_table(spec, truth),
        areas=area_truth(spec, made.scene.ground, truth),
        spec=spec,
        covers=made.covers,
    )


def beside_controls(spec: PhantomSpec, main: Phantom) -> Phantom:
    """Return a phantom with its control areas in columns at the right, on the same glass.

    The truth of their cells stands below the tumour's, with the cell type ``control`` and the
    annotation's class as ``area``; areas and regions speak of the tumour alone.
    """
    pieces = [_single(control_spec(spec, word, i)) for i, word in enumerate(spec.controls)]
    side = pieces[0].rgb.shape[0]
    gap = round(GAP_UM / spec.mpp)
    height, width = main.rgb.shape[:2]
    rows = max(1, (height + gap) // (side + gap))
    cols = -(-len(pieces) // rows)
    total = (max(height, side), width + cols * (side + gap) + gap)
    canvas = np.empty((*total, 3), np.uint8)
    canvas[:] = np.round(spec.white).astype(np.uint8)
    add_camera_noise(spec, canvas)
    canvas[:height, :width] = main.rgb
    tables, features = [main.truth], []
    for i, (word, piece) in enumerate(zip(spec.controls, pieces, strict=True)):
        y, x = (i % rows) * (side + gap), width + gap + (i // rows) * (side + gap)
        canvas[y : y + side, x : x + side] = piece.rgb
        tables.append(_moved(piece.truth, (x * spec.mpp, y * spec.mpp), f"control {word}"))
        features.append(_square(x, y, side, f"control {word}", i + 1))
    truth = pa.concat_tables(tables)
    truth = truth.set_column(0, truth.schema.field(0), pa.array(np.arange(truth.num_rows)))
    text = json.dumps({"type": "FeatureCollection", "features": features})
    return replace(main, rgb=canvas, truth=truth, spec=spec, annotations=text)


def _moved(truth: pa.Table, by_um: tuple[float, float], area: str) -> pa.Table:
    """Return a control's truth in the slide's own coordinates."""
    for name, shift in zip(("x_um", "y_um"), by_um, strict=True):
        at = truth.schema.get_field_index(name)
        moved = pa.array(np.array(truth[name]) + shift)
        truth = truth.set_column(at, truth.schema.field(at), moved)
    kinds = ["control" if k == "tumour" else k for k in truth["cell_type"].to_pylist()]
    for name, values in (("cell_type", kinds), ("area", [area] * truth.num_rows)):
        at = truth.schema.get_field_index(name)
        truth = truth.set_column(at, truth.schema.field(at), pa.array(values, pa.string()))
    return truth


def _square(x: int, y: int, side: int, word: str, number: int) -> dict[str, Any]:
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "name": f"area {number}",
                       "classification": {"name": word}},
    }  # fmt: skip
