"""Where labelled patches come from: images, results, phantoms, folders of them, a manifest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from her2path.cells import stain
from her2path.cells.stain import StainModel
from her2path.cnn.corrected import corrected
from her2path.cnn.labels import TumourCells, label_patches, whole_label
from her2path.cnn.manifest import Recipe, Row, find_rows
from her2path.cnn.patches import Patches, Read, Window, cut, join, shrink
from her2path.cnn.sample import hashed_order
from her2path.core.errors import InputError, ManifestError, OutputError
from her2path.core.geometry import Box
from her2path.core.schema import PATTERNS, SCORES
from her2path.core.settings import Settings
from her2path.io.slide import SlideRef, open_slide
from her2path.io.store import RunStore

__all__ = ["Recipe", "from_phantom_pixels", "read_source"]

Progress = Callable[[str, int, int, float], None]
#: an image larger than a patch gives at most this many, laid side by side
TILES_PER_IMAGE = 64


def read_source(source: str | Path, recipe: Recipe, progress: Progress | None = None) -> Patches:
    """Read labelled patches.

    Parameters
    ----------
    source : path
        A manifest (CSV: ``image`` or ``results``, ``label``, ``case_id``, ``scanner``, ``mpp``,
        ``region``: the id or name of the one region of ``results`` that a row speaks of); a
        folder with one folder a class (``0 1+ 2+ 3+``); the OUT of a slide or of a batch; a folder
        written by ``her2path phantom``, or a folder of those.
    recipe : Recipe
        How patches are made.
    progress : callable, optional
        Called with (stage, done, total, 0).

    Raises
    ------
    ManifestError
        Naming the row and the column that are wrong.
    InputError
        Where an image or slide cannot be read, or is too coarse.
    """
    rows = list(find_rows(Path(source), recipe))
    if not rows:
        raise ManifestError(f"{source} holds nothing to train on", "See docs/cnn.md")
    parts, images = [], [r for r in rows if r.is_image]
    jobs: list[Callable[[], Patches]] = [
        partial(_from_folder, r, recipe) for r in rows if not r.is_image
    ]
    for key in sorted({(r.case, r.scanner) for r in images}):
        mine = [r for r in images if (r.case, r.scanner) == key]
        jobs.append(partial(_from_images, mine, recipe))
    for done, job in enumerate(jobs):
        if progress is not None:
            progress("reading patches", done, len(jobs), 0.0)
        parts.append(job())
    if progress is not None:
        progress("reading patches", len(jobs), len(jobs), 0.0)
    return join(parts)


# -- images ----------------------------------------------------------------------------------------


def _from_images(rows: list[Row], recipe: Recipe) -> Patches:
    """Return the patches of one case's images; their stains are estimated together."""
    pixels = [_image(r) for r in rows]
    mpps = [_image_mpp(r) for r in rows]
    model = stain.estimate(pixels, float(np.median(mpps)), Settings().stain)
    cuts = [_tiles(p, m, recipe.window, r) for p, m, r in zip(pixels, mpps, rows, strict=True)]
    rgb = np.concatenate(cuts)
    label = np.concatenate([np.full(len(c), r.label) for c, r in zip(cuts, rows, strict=True)])
    return _patches(rgb, label, (rows[0].case, rows[0].scanner), model, recipe, {}, "images")


def _image(row: Row) -> NDArray[np.uint8]:
    found = cv2.imread(str(row.path), cv2.IMREAD_COLOR)
    if found is None:
        raise InputError(f"the image {row.path} cannot be read", "Give PNG, JPEG or TIFF")
    return np.asarray(cv2.cvtColor(found, cv2.COLOR_BGR2RGB), np.uint8)


def _image_mpp(row: Row) -> float:
    if row.mpp is None or not 0.05 <= row.mpp <= 2.0:
        raise ManifestError(
            f"the pixel size of {row.path} is not known", "Give the column mpp, or --mpp"
        )
    return row.mpp


def _tiles(rgb: NDArray[np.uint8], mpp: float, window: Window, row: Row) -> NDArray[np.uint8]:
    side = window.source_px(mpp)
    ny, nx = rgb.shape[0] // side, rgb.shape[1] // side
    if not ny * nx:
        raise InputError(
            f"the image {row.path} shows less than {window.side_um:g} µm",
            "Cut larger images, or give a smaller --patch-px",
        )
    oy, ox = (rgb.shape[0] - ny * side) // 2, (rgb.shape[1] - nx * side) // 2
    corners = [(oy + j * side, ox + i * side) for j in range(ny) for i in range(nx)]
    kept = corners[:: -(-len(corners) // TILES_PER_IMAGE)]
    return np.stack([shrink(rgb[y : y + side, x : x + side], window.patch_px) for y, x in kept])


# -- results and phantoms --------------------------------------------------------------------------


def _from_folder(row: Row, recipe: Recipe) -> Patches:
    return (_from_phantom if (row.path / "truth.parquet").is_file() else _from_result)(row, recipe)


def _from_result(row: Row, recipe: Recipe) -> Patches:
    """Cut patches around tumour cells of a scored slide, a reader's corrections applied."""
    store = RunStore(row.path)
    result = store.result()
    if result.status != "complete":
        raise OutputError(f"{row.path} was not evaluable: there are no cells", "Leave it out")
    if result.stain is None or result.slide.path is None or not Path(result.slide.path).exists():
        raise OutputError(
            f"{row.path} does not lead to its slide", "Score the slide again, not pseudonymised"
        )
    s = store.settings().slide
    ref = SlideRef(result.slide.path, mpp=row.mpp or s.mpp, force_mpp=s.force_mpp, icc=s.icc)
    names_of = ["cell_id", "x_um", "y_um", "x_px", "y_px", "cell_type", "pattern", "region_id"]
    table = corrected(store.cells(names_of), store.out / "corrections.geojson")
    table = _of_region(table, store, row, recipe)
    facts = result.stain
    model = StainModel(facts.white_point, facts.hematoxylin, facts.dab, facts.method)
    names = (row.case or result.slide.id, row.scanner)
    return _from_cells(ref, table, model, names, row, recipe)


def _of_region(table: pa.Table, store: RunStore, row: Row, recipe: Recipe) -> pa.Table:
    """Keep one region's cells where the row names it; add ``region_score`` where it labels."""
    regions = store.regions()
    ids, of_cell = regions.column("region_id").to_pylist(), table.column("region_id").to_numpy()
    if row.region:
        names = regions.column("name").to_pylist()
        mine = [i for i, n in zip(ids, names, strict=True) if row.region in (str(i), n)]
        if not mine:
            raise ManifestError(
                f"{row.path} has no region {row.region!r}", "Give a region_id or name of it"
            )
        inside = np.isin(of_cell, mine)
        table, of_cell = table.filter(pa.array(inside)), of_cell[inside]
    if recipe.labels == "regions" and row.label is None:
        told_by = store.settings().score.guideline
        if told_by != recipe.guideline:
            raise ManifestError(
                f"the regions of {row.path} are scored by {told_by}, not {recipe.guideline}",
                f"Give --guideline {told_by}, or rescore them",
            )
        words = regions.column("score").to_pylist()
        score = {i: SCORES.index(w) for i, w in zip(ids, words, strict=True) if w is not None}
        told = np.array([score.get(int(r), -1) for r in of_cell], np.int64)
        table = table.append_column("region_score", pa.array(told))
    return table


def _from_phantom(row: Row, recipe: Recipe) -> Patches:
    slides = sorted(row.path.glob("*.svs"))
    if not slides:
        raise InputError(f"{row.path} holds truth and no slide", "Run `her2path phantom` again")
    table = _with_ids(pq.read_table(row.path / "truth.parquet"))
    ref = SlideRef(str(slides[0]), mpp=row.mpp)
    with open_slide(ref) as slide:
        small = _sample(slide.read, slide.info.width_px, slide.info.height_px, slide.info.mpp)
        model = stain.estimate(small, slide.info.mpp, Settings().stain)
    names = (row.case or row.path.name, row.scanner or row.path.name)
    return _from_cells(ref, table, model, names, row, recipe)


def _with_ids(truth: pa.Table) -> pa.Table:
    names = {"cell_index": "cell_id"}
    return truth.rename_columns([names.get(n, n) for n in truth.column_names])


def _sample(read: Read, width: int, height: int, mpp: float) -> list[NDArray[np.uint8]]:
    """Read the boxes that the stain is estimated from, everything taken to be tissue."""
    mask = np.ones((max(1, height // 32), max(1, width // 32)), bool)
    boxes = stain.sample_boxes(mask, mpp * 32, mpp, Settings().stain)
    whole = Box(0, 0, width, height)
    return [read(b.clip(whole)) for b in boxes if not b.clip(whole).empty]


def _from_cells(
    ref: SlideRef,
    table: pa.Table,
    model: StainModel,
    names: tuple[str, str],
    row: Row | None,
    recipe: Recipe,
) -> Patches:
    with open_slide(ref) as slide:
        scanner = names[1] or slide.info.vendor
        return _around_cells(
            slide.read, slide.info.mpp, table, model, (names[0], scanner), row, recipe
        )


def from_phantom_pixels(
    rgb: NDArray[np.uint8],
    mpp: float,
    truth: pa.Table,
    names: tuple[str, str],
    recipe: Recipe,
    model: StainModel | None = None,
) -> Patches:
    """Cut patches from a phantom, or from a picture whose cells are known, in memory.

    Parameters
    ----------
    rgb : uint8 (H, W, 3)
        The whole phantom.
    mpp : float
        µm per pixel.
    truth : pyarrow.Table
        Its truth table.
    names : (case, scanner)
    recipe : Recipe
    model : StainModel, optional
        White point and stains of the slide that the pixels are of; estimated from them by default.
    """
    height, width = rgb.shape[:2]

    def read(box: Box) -> NDArray[np.uint8]:
        ys = np.clip(np.arange(box.y0, box.y1), 0, height - 1)
        xs = np.clip(np.arange(box.x0, box.x1), 0, width - 1)
        return rgb[ys[:, None], xs]

    model = model or stain.estimate(_sample(read, width, height, mpp), mpp, Settings().stain)
    return _around_cells(read, mpp, _with_ids(truth), model, names, None, recipe)


def _around_cells(
    read: Read,
    mpp: float,
    table: pa.Table,
    model: StainModel,
    names: tuple[str, str],
    row: Row | None,
    recipe: Recipe,
) -> Patches:
    """Cut patches around a sample of the tumour cells, each labelled by the cells inside."""
    mine = np.array(table.column("cell_type").to_pylist(), object) == "tumour"
    table = table.filter(pa.array(mine))
    codes = {p: k for k, p in enumerate(PATTERNS)}
    cells = TumourCells(
        table.column("x_um").to_numpy().astype(np.float64),
        table.column("y_um").to_numpy().astype(np.float64),
        np.array([codes[p] for p in table.column("pattern").to_pylist()], np.int64),
    )
    rows = hashed_order(table.column("cell_id").to_numpy())[: recipe.per_slide]
    centres = np.stack([cells.x_um[rows], cells.y_um[rows]], axis=1)
    if "region_score" in table.column_names:
        labels = table.column("region_score").to_numpy()[rows].copy()
    else:
        labels = label_patches(cells, centres, recipe.window.side_um, recipe.guideline)
    kept = labels >= 0
    centres, labels = centres[kept], labels[kept]
    if row is not None and row.label is not None:
        labels[:] = row.label
    size = recipe.window.patch_px
    rgb = np.empty((len(labels), size, size, 3), np.uint8)
    for at, pixels in cut(read, centres / mpp, mpp, recipe.window):
        rgb[at] = pixels
    ruled = row is None or (row.label is None and not row.region)  # and for the whole case
    whole = {names[0]: whole_label(cells, recipe.guideline)} if len(cells) and ruled else {}
    kind = "known cells of phantoms" if "has_nucleus" in table.column_names else "scored cells"
    return _patches(rgb, labels, names, model, recipe, whole, kind)


def _patches(
    rgb: NDArray[np.uint8],
    label: NDArray[np.int64],
    names: tuple[str, str],
    model: StainModel,
    recipe: Recipe,
    case_score: dict[str, int],
    source: str,
) -> Patches:
    n = len(rgb)
    return Patches(
        rgb,
        label.astype(np.int64),
        np.full(n, names[0]),
        np.full(n, names[1] or "unknown"),
        np.zeros(n, np.int64),
        (model,),
        recipe.window,
        case_score,
        source,
    )
