"""One run's folder: every file of it by name, written whole or not at all."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from her2path.core.errors import OutputError
from her2path.core.results import Result
from her2path.core.settings import Settings, load_settings
from her2path.io.store import tables
from her2path.io.store.files import (
    disk_errors,
    folder_of,
    make_dir,
    read_json,
    remove,
    write_bytes,
    write_json,
    write_text,
)
from her2path.io.store.gallery import Gallery, read_gallery
from her2path.io.store.maps import Maps

__all__ = ["ISH_FILES", "UNTOUCHED_BY_ISH", "UNTOUCHED_BY_SCORE", "BatchStore", "RunStore"]


class Artefact(NamedTuple):
    """One file or folder of a result: its name, and when a rescored result takes it over.

    ``carried`` is true where neither cut-offs nor rules change it.
    """

    name: str
    carried: bool = False


#: what a finished run leaves, in the order in which it is published; ``result.json`` is last
ARTEFACTS = (
    Artefact("settings.yaml"),
    Artefact("cells.parquet"),
    Artefact("regions.parquet"),
    Artefact("region_features.parquet"),
    Artefact("maps.zarr", carried=True),
    Artefact("gallery.zarr", carried=True),
    Artefact("thumbnail.jpg", carried=True),
    Artefact("annotations.geojson", carried=True),
    Artefact("ish.json", carried=True),
    Artefact("ish_areas.csv", carried=True),
    Artefact("ish_cases.csv", carried=True),
    Artefact("regions.geojson"),
    Artefact("report.html"),
    Artefact("report.pdf"),
    Artefact("result.json"),
)
FILES = tuple(a.name for a in ARTEFACTS)
#: what another score of the same cells leaves as it is
UNTOUCHED_BY_SCORE = tuple(a.name for a in ARTEFACTS if a.carried)
#: what ISH counts leave, beside a slide or a case
ISH_FILES = tuple(n for n in FILES if n.startswith("ish"))
#: what is kept where only ISH is added or taken back
UNTOUCHED_BY_ISH = tuple(n for n in FILES if n not in (*ISH_FILES, "report.pdf", "result.json"))


class RunStore:
    """The folder of one slide's run.

    A run is written into `staging` and moved into place by `publish`: a complete result is
    never half-overwritten, and ``result.json`` is there only when everything else is.

    Parameters
    ----------
    out : path
        The folder; nothing is made before `create`.
    """

    def __init__(self, out: str | Path) -> None:
        self.out = folder_of(out)

    def __repr__(self) -> str:
        return f"RunStore({str(self.out)!r})"

    # -- paths ---------------------------------------------------------------------------------

    @property
    def result_path(self) -> Path:
        """``result.json``: its presence means complete."""
        return self.out / "result.json"

    @property
    def settings_path(self) -> Path:
        """``settings.yaml``: the effective settings."""
        return self.out / "settings.yaml"

    @property
    def cells_path(self) -> Path:
        """``cells.parquet/``: one row a cell."""
        return self.out / "cells.parquet"

    @property
    def regions_path(self) -> Path:
        """``regions.parquet``: one row a region."""
        return self.out / "regions.parquet"

    @property
    def features_path(self) -> Path:
        """``region_features.parquet``: the CNN's features of every region; may be absent."""
        return self.out / "region_features.parquet"

    @property
    def maps_path(self) -> Path:
        """``maps.zarr``: OME-Zarr maps."""
        return self.out / "maps.zarr"

    @property
    def gallery_path(self) -> Path:
        """``gallery.zarr``: cell patches."""
        return self.out / "gallery.zarr"

    @property
    def thumbnail_path(self) -> Path:
        """``thumbnail.jpg``: the overview of the whole level-0 plane."""
        return self.out / "thumbnail.jpg"

    @property
    def report_path(self) -> Path:
        """``report.html``."""
        return self.out / "report.html"

    @property
    def regions_geojson_path(self) -> Path:
        """``regions.geojson``: QuPath-readable regions."""
        return self.out / "regions.geojson"

    @property
    def annotations_path(self) -> Path:
        """``annotations.geojson``: the annotations that were used, level-0 px; may be absent."""
        return self.out / "annotations.geojson"

    @property
    def ish_path(self) -> Path:
        """``ish.json``: ISH interpretation; may be absent."""
        return self.out / "ish.json"

    @property
    def work(self) -> Path:
        """``.work/``: part files and staging of an unfinished run."""
        return self.out / ".work"

    @property
    def fingerprint_path(self) -> Path:
        """``.work/fingerprint.json``: what an unfinished run was started with."""
        return self.work / "fingerprint.json"

    @property
    def staging(self) -> RunStore:
        """The store that a run writes into before `publish`."""
        return RunStore(self.work / "staged")

    # -- life ----------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether the run is finished."""
        return self.result_path.is_file()

    @property
    def started(self) -> bool:
        """Whether there is an unfinished run in the folder."""
        return self.fingerprint_path.is_file()

    def create(self) -> RunStore:
        """Make the folder and return the store.

        Raises
        ------
        OutputError, DiskFull
            Where it cannot be made or written to.
        """
        make_dir(self.out)
        probe = self.out / ".write_test"
        with disk_errors(self.out):
            probe.write_bytes(b"")
            probe.unlink()
        return self

    def publish(self) -> None:
        """Move everything from `staging` into place, ``result.json`` last; then drop ``.work``.

        Interrupted, it may be called again. Files of an earlier result that the new one lacks
        are removed.

        Raises
        ------
        OutputError
            Where the staged run has no ``result.json``.
        """
        staged, plan = self.staging, self.work / "publish.json"
        if not staged.complete:
            raise OutputError(f"{staged.out} holds no finished run", "Run the command again")
        if not plan.is_file():
            write_json(plan, [name for name in FILES if (staged.out / name).exists()])
        names = read_json(plan)
        remove(self.result_path)
        for name in FILES:
            source, target = staged.out / name, self.out / name
            if name in names and not source.exists():
                continue  # moved by an earlier attempt
            remove(target)
            if name in names:
                with disk_errors(target):
                    source.replace(target)
        self.drop_work()

    def drop_work(self) -> None:
        """Remove part files and staging."""
        remove(self.work)

    def copy_to(self, other: RunStore, *names: str) -> None:
        """Copy files and folders of this result, where there are any, into another store."""
        for name in names:
            source, target = self.out / name, other.out / name
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            elif source.exists():
                shutil.copy2(source, target)

    def write_fingerprint(self, values: dict[str, Any]) -> None:
        """Note what the run was started with, so that only the same one resumes it."""
        make_dir(self.work)
        write_json(self.fingerprint_path, values)

    def fingerprint(self) -> dict[str, Any] | None:
        """Return what an unfinished run was started with; None where there is none."""
        return dict(read_json(self.fingerprint_path)) if self.started else None

    # -- writing -------------------------------------------------------------------------------

    def write_settings(self, settings: Settings) -> None:
        """Write the effective settings."""
        write_text(self.settings_path, settings.to_yaml())

    def write_cells(self, parts: Iterable[pa.Table], rows: int | None = None) -> int:
        """Write the cell table from parts in their final order; see `tables.write_parts`."""
        return tables.write_parts(self.cells_path, parts, rows)

    def write_regions(self, table: pa.Table) -> None:
        """Write the region table."""
        tables.write_single(self.regions_path, table)

    def write_features(self, table: pa.Table) -> None:
        """Write the CNN's features: ``region_id`` and a list of float32 a region."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        write_bytes(self.features_path, buffer.getvalue())

    def write_thumbnail(self, rgb: NDArray[np.uint8], quality: int = 85) -> None:
        """Write the overview, (H, W, 3) uint8, of the whole level-0 plane."""
        buffer = io.BytesIO()
        Image.fromarray(rgb).save(buffer, "JPEG", quality=quality, optimize=True)
        write_bytes(self.thumbnail_path, buffer.getvalue())

    def write_result(self, result: Result) -> None:
        """Write ``result.json``; call it last."""
        write_text(self.result_path, result.json_text() + "\n")

    # -- reading -------------------------------------------------------------------------------

    def result(self) -> Result:
        """Read ``result.json``.

        Raises
        ------
        OutputError
            Where there is no complete result, or it is damaged.
        """
        if not self.result_path.is_file():
            raise OutputError(
                f"{self.out} holds no complete result", "Give the OUT folder of a finished run"
            )
        try:
            return Result.from_json(self.result_path.read_bytes())
        except (OSError, ValidationError) as exc:
            raise OutputError(
                f"{self.result_path} is damaged", "Score the slide again with --overwrite"
            ) from exc

    def settings(self) -> Settings:
        """Read the effective settings."""
        return load_settings(self.settings_path)

    def cell_columns(self) -> list[str]:
        """Return the names of the cell table's columns."""
        return tables.table_names(self.cells_path)

    def cells(
        self, columns: Sequence[str] | None = None, where: pc.Expression | None = None
    ) -> pa.Table:
        """Read the cell table, or some of its columns and rows."""
        return tables.read_table(self.cells_path, columns, where)

    def iter_cells(
        self, batch: int = tables.ROW_GROUP, columns: Sequence[str] | None = None
    ) -> Iterator[pa.Table]:
        """Yield the cell table in pieces of at most ``batch`` rows, in bounded memory."""
        return tables.iter_table(self.cells_path, columns, batch)

    def regions(self) -> pa.Table:
        """Read the region table."""
        return tables.read_table(self.regions_path)

    def features(self) -> pa.Table | None:
        """Read the CNN's features of the regions; None where they were not asked for."""
        return pq.read_table(self.features_path) if self.features_path.is_file() else None

    def maps(self) -> Maps:
        """Open the maps."""
        return Maps(self.maps_path)

    def gallery(self) -> Gallery:
        """Read the cell patches."""
        return read_gallery(self.gallery_path)

    def thumbnail(self) -> NDArray[np.uint8]:
        """Read the overview, (H, W, 3) uint8.

        Raises
        ------
        OutputError
            Where it is missing or damaged.
        """
        try:
            with Image.open(self.thumbnail_path) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, ValueError) as exc:
            raise OutputError(f"{self.thumbnail_path} is missing or damaged", "") from exc

    def ish(self) -> dict[str, Any] | None:
        """Read ``ish.json``; None where no ISH was given."""
        return dict(read_json(self.ish_path)) if self.ish_path.is_file() else None


class BatchStore:
    """The folder of a batch: ``slides/``, ``cases/``, tables and index.

    Parameters
    ----------
    out : path
        The folder.
    """

    def __init__(self, out: str | Path) -> None:
        self.out = folder_of(out)
        self.slides_csv = self.out / "slides.csv"
        self.cases_csv = self.out / "cases.csv"
        self.failures_csv = self.out / "failures.csv"
        self.run_json = self.out / "run.json"
        self.index_path = self.out / "index.html"

    @property
    def is_batch(self) -> bool:
        """Whether the folder holds a batch."""
        return (self.out / "slides").is_dir()

    def slide(self, slide_id: str) -> RunStore:
        """Return the store of one slide."""
        return RunStore(self.out / "slides" / slide_id)

    def slides(self) -> list[RunStore]:
        """Return the stores of all slides with a complete result, by name."""
        folders = sorted((self.out / "slides").glob("*/result.json"))
        return [RunStore(p.parent) for p in folders]

    def case_dir(self, case_id: str) -> Path:
        """Return the folder of one case."""
        return self.out / "cases" / case_id

    def case_dirs(self) -> list[Path]:
        """Return the folders of all cases, by name."""
        return [p.parent for p in sorted((self.out / "cases").glob("*/case.json"))]

    def case(self, case_id: str) -> dict[str, Any]:
        """Read one case's ``case.json``."""
        return dict(read_json(self.case_dir(case_id) / "case.json"))
