"""The named planes: the file's own pixels, square ones, QuPath's crop, a DICOM frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
import tifffile

from her2path.core.geometry import CropPlane, FilePlane, FramePlane, Planes, SquarePlane
from her2path.core.settings import Settings
from her2path.io.annotations import Annotations
from her2path.io.annotations.model import Annotation
from her2path.io.store import RunStore
from her2path.outputs.export import export
from her2path.outputs.viewer.index import build_index
from her2path.phantom import PhantomSpec, make_phantom
from her2path.runs.case.score import score_slide

OBLONG = Planes.of((0.25, 0.5), (1400, 600), (100, 50))


def test_planes_have_types_and_scales() -> None:
    kinds = (FilePlane, SquarePlane, CropPlane)
    assert tuple(type(p) for p in (OBLONG.file, OBLONG.square, OBLONG.crop)) == kinds
    assert OBLONG.square_px == (1400, 1200)
    assert OBLONG.file.move(100.0, 50.0, OBLONG.square) == (100.0, 100.0)
    assert OBLONG.file.move(100.0, 50.0, OBLONG.crop) == (0.0, 0.0)
    assert OBLONG.crop.move(0.0, 0.0, OBLONG.file) == (100.0, 50.0)
    assert OBLONG.file.to_um(4.0, 4.0) == (1.0, 2.0)


def test_a_frame_may_be_a_coarser_instance() -> None:
    frame = OBLONG.frame(350, 150)
    assert isinstance(frame, FramePlane)
    assert OBLONG.file.move(400.0, 200.0, frame) == (100.0, 50.0)


def test_equal_planes_change_no_bit() -> None:
    planes = Planes.of((0.2527, 0.2527), (1001, 777))
    x = np.random.default_rng(0).random(50).astype(np.float32) * 1e5
    assert planes.square.move(x, x, planes.file)[0] is x


def test_there_and_back() -> None:
    planes = Planes.of((0.3, 0.47), (1001, 777), (31, 7))
    x, y = np.random.default_rng(0).random((2, 50)) * 700
    for other in (planes.square, planes.crop, planes.frame(100, 90)):
        back = other.move(*planes.file.move(x, y, other), planes.file)
        np.testing.assert_allclose(back, (x, y), atol=1e-9)


def test_annotations_move_with_their_plane() -> None:
    drawn = Annotations((Annotation("a", "Tumor", shapely.box(10, 20, 30, 40), "tumour"),), "0")
    moved = drawn.moved(OBLONG.file, OBLONG.square).items[0].polygon
    assert moved.bounds == pytest.approx((10, 40, 30, 80))


@pytest.fixture(scope="module")
def oblong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scored slide of 0.25 x 0.5 µm pixels, with its tumour annotated in its own pixels."""
    folder = tmp_path_factory.mktemp("oblong")
    spec = PhantomSpec(seed=5, width_um=300, height_um=260, tumour_share=0.8,
                       mixture={"intense_complete": 1.0})  # fmt: skip
    rgb = make_phantom(spec).rgb.astype(int)
    half = ((rgb[0::2] + rgb[1::2] + 1) // 2).astype(np.uint8)
    tifffile.imwrite(folder / "a.tif", half, photometric="rgb", compression="lzw", metadata=None,
                     tile=(256, 256), resolution=(40_000, 20_000),
                     resolutionunit="CENTIMETER")  # fmt: skip
    ring = [[80, 60], [1100, 60], [1100, 460], [80, 460], [80, 60]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
               "properties": {"classification": {"name": "Tumor"}}}  # fmt: skip
    (folder / "a.geojson").write_text(json.dumps(feature))
    small = Settings().replace({
        "score.min_cells": 20, "regions.size_um": 120.0, "heterogeneity.permutations": 99,
        "score.bootstrap_draws": 50, "heterogeneity.biopsy_draws": 20, "stream.workers": 2,
    })  # fmt: skip
    score_slide(folder / "a.tif", folder / "out", small, folder / "a.geojson")
    return folder / "out"


def test_tables_are_in_the_files_own_pixels(oblong: Path) -> None:
    cells = pq.read_table(oblong / "cells.parquet")
    x, y, x_um, y_um = (cells[n].to_numpy() for n in ("x_px", "y_px", "x_um", "y_um"))
    assert y.max() < 520
    np.testing.assert_allclose(x * 0.25, x_um, atol=0.01)
    np.testing.assert_allclose(y * 0.5, y_um, atol=0.01)
    tumour = np.array(cells["cell_type"].to_pylist()) == "tumour"
    assert tumour.sum() > 50
    assert y[tumour].min() >= 60
    assert y[tumour].max() <= 460
    assert y[tumour].max() > 380  # the whole height, not its upper half
    facts = RunStore(oblong).result().slide
    assert (facts.width_px, facts.height_px, facts.mpp, facts.mpp_y) == (1200, 520, 0.25, 0.5)


def test_what_leaves_the_program_lies_on_the_file(oblong: Path, tmp_path: Path) -> None:
    export(oblong, "geojson", tmp_path)
    features = json.loads((tmp_path / "cells.geojson").read_text())["features"]
    rings = [np.array(f["geometry"]["coordinates"][0]) for f in features]
    size = np.median([np.ptp(r, axis=0) for r in rings], axis=0)
    assert size[0] / size[1] == pytest.approx(2.0, rel=0.25)  # round cells in oblong pixels
    regions = json.loads((tmp_path / "regions.geojson").read_text())["features"]
    corners = np.concatenate([np.array(r["geometry"]["coordinates"][0]) for r in regions])
    assert corners[:, 1].max() <= 530
    kept: dict[str, Any] = json.loads((oblong / "annotations.geojson").read_text())
    ring = np.array(kept["features"][0]["geometry"]["coordinates"][0])
    assert (ring[:, 1].min(), ring[:, 1].max()) == (60, 460)


def test_viewer_and_gallery_know_both_planes(oblong: Path) -> None:
    store = RunStore(oblong)
    planes = store.result().slide.planes
    index = build_index(store, planes)
    cells = store.cells(["cell_id", "y_um"])
    order = np.argsort(cells["cell_id"].to_numpy())
    shown = index.cells.y_px[np.argsort(index.cells.cell_id)]
    np.testing.assert_allclose(shown * 0.25, cells["y_um"].to_numpy()[order], atol=0.01)
    assert max(store.gallery().table["y_px"].to_pylist()) < 520
