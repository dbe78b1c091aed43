"""One door for every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from her2path.core.errors import OutputError, UsageError
from her2path.io.store import BatchStore, RunStore
from her2path.io.store.files import make_dir
from her2path.outputs.export import csvfiles, dicom, geojson, omezarr, scverse

__all__ = ["FORMATS", "export", "export_regions"]

Offset = tuple[float, float]
Writer = Callable[[RunStore, Path, Offset], Path]

#: format -> what writes it
FORMATS: dict[str, Writer] = {
    "geojson": geojson.write,
    "anndata": scverse.write_anndata,
    "spatialdata": scverse.write_spatialdata,
    "ome-zarr": omezarr.write,
    "csv": csvfiles.write,
    "dicom": dicom.write,
}


def export(
    out: str | Path, to: str, dest: str | Path | None = None, qupath_crop: bool = False
) -> Path:
    """Write the results of a run, or of every slide of a batch, in another format.

    Parameters
    ----------
    out : path
        Folder of a complete run, or of a batch.
    to : str
        A key of `FORMATS`.
    dest : path, optional
        Folder to write into (of a batch one folder a slide in it); default ``OUT/export`` of
        the run, or of each slide.
    qupath_crop : bool
        Take the slide's bounds offset off every position: QuPath shows some formats (MRXS)
        cropped to their bounds. GeoJSON only; the other formats keep the slide's own plane.

    Returns
    -------
    Path
        The file or folder that was written, or ``dest`` where it is more than one.

    Raises
    ------
    UsageError
        For an unknown format, or a crop whose offset is not known.
    OutputError
        Without a complete run, or where nothing can be written.
    MissingExtra
        Where an optional package is needed; the message says how to install it.
    """
    if to not in FORMATS:
        raise UsageError(f"there is no export format {to!r}", f"Valid: {', '.join(FORMATS)}")
    batch = BatchStore(out)
    if batch.is_batch and not RunStore(out).complete:
        return _export_batch(batch, to, Path(dest) if dest is not None else None, qupath_crop)
    store = RunStore(out)
    store.result()  # a run that is not complete is refused before anything is made
    if qupath_crop and to != "geojson":
        raise UsageError(f"--qupath-crop does not go with {to}", "Use it with --to geojson")
    offset = crop_offset(store) if qupath_crop else (0.0, 0.0)
    folder = make_dir(Path(dest) if dest is not None else store.out / "export")
    return FORMATS[to](store, folder, offset)


def _export_batch(batch: BatchStore, to: str, dest: Path | None, qupath_crop: bool) -> Path:
    stores = batch.slides()
    if not stores:
        raise OutputError(f"{batch.out} holds no scored slide", "Score slides first")
    for store in stores:
        export(store.out, to, None if dest is None else dest / store.out.name, qupath_crop)
    return dest or batch.out / "slides"


def export_regions(out: str | Path) -> Path:
    """Write ``regions.geojson`` into a run's folder, in level-0 pixels; return its path."""
    store = RunStore(out)
    return geojson.write_regions(store, store.regions_geojson_path, (0.0, 0.0))


def crop_offset(store: RunStore) -> Offset:
    """Return the level-0 position of the slide's bounds, px.

    Raises
    ------
    UsageError
        Where neither the result nor the slide tells.
    """
    facts = store.result().slide
    stored = facts.bounds_px
    if stored:
        return float(stored[0]), float(stored[1])
    if facts.path and Path(facts.path).exists():
        from her2path.io.slide import SlideRef, open_slide

        with open_slide(SlideRef(facts.path, mpp=facts.mpp)) as slide:
            bounds = slide.info.file_bounds
        return (float(bounds.x0), float(bounds.y0)) if bounds else (0.0, 0.0)
    raise UsageError(
        "the slide's bounds are not stored and the slide is not where it was",
        "Export without --qupath-crop, or bring the slide back",
    )
