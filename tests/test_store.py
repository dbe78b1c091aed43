"""The layout on disk: whole or not at all, the same bytes for the same rows, few files."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import zarr
from fake_run import Plane, cells_table, make_run
from ome_zarr_models.v05.image import Image as OmeImage
from ome_zarr_models.v05.image_label import ImageLabel

from her2path.core.errors import DiskFull, OutputError, ProgramFault
from her2path.core.schema import CELLS
from her2path.io.store import (
    Maps,
    RunStore,
    atomic_file,
    dictionary_codes,
    disk_errors,
    read_gallery,
    write_gallery,
    write_json,
    write_maps,
)
from her2path.io.store import tables as tables_module


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return make_run(tmp_path_factory.mktemp("store") / "run", "clustered")


def folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def test_everything_comes_back(run: RunStore) -> None:
    cells = run.cells()
    assert cells.num_rows == run.result().counts.tumour + run.result().counts.other
    assert cells.column_names[: len(CELLS)] == [c.name for c in CELLS]
    assert [f.type for f in cells.schema][: len(CELLS)] == [c.type for c in CELLS]
    assert run.regions().num_rows == 20
    assert run.settings().regions.size_um == 250
    assert run.ish() is None
    assert run.complete


def test_units_travel_with_the_columns(run: RunStore) -> None:
    assert run.cells().schema.field("x_um").metadata[b"unit"] == "µm".encode()


def test_pieces_make_the_whole(run: RunStore) -> None:
    pieces = list(run.iter_cells(batch=1000, columns=["cell_id", "pattern"]))
    assert max(p.num_rows for p in pieces) <= 1000
    assert pa.concat_tables(pieces)["cell_id"].equals(run.cells(["cell_id"])["cell_id"])


def test_dictionary_codes_do_not_depend_on_what_comes_first(run: RunStore) -> None:
    codes = dictionary_codes(run.cells(), "pattern").to_numpy()
    names = run.cells()["pattern"].to_numpy(zero_copy_only=False)
    assert (codes == 0).sum() == (names == "none").sum()
    assert (codes == 6).sum() == (names == "intense_complete").sum()


def test_the_same_rows_give_the_same_bytes_however_they_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables_module, "ROW_GROUP", 500)
    monkeypatch.setattr(tables_module, "MIN_PART", 1000)
    cells = cells_table("two_plus", Plane(), 60, 3)
    whole, cut = RunStore(tmp_path / "a").create(), RunStore(tmp_path / "b").create()
    assert whole.write_cells([cells], rows=cells.num_rows) == cells.num_rows
    cut.write_cells(
        (cells.slice(i, 333) for i in range(0, cells.num_rows, 333)), rows=cells.num_rows
    )
    assert folder_hash(whole.cells_path) == folder_hash(cut.cells_path)
    assert len(list(whole.cells_path.iterdir())) == -(-cells.num_rows // 1000)
    assert whole.cells().equals(cut.cells())


def test_few_files_however_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables_module, "ROW_GROUP", 10)
    monkeypatch.setattr(tables_module, "MIN_PART", 10)
    cells = cells_table("two_plus", Plane(), 60, 3)
    store = RunStore(tmp_path).create()
    store.write_cells([cells], rows=cells.num_rows)
    assert len(list(store.cells_path.iterdir())) <= tables_module.MAX_PARTS


def test_an_empty_cell_table_can_be_read(tmp_path: Path) -> None:
    store = RunStore(tmp_path).create()
    assert store.write_cells([]) == 0
    assert store.cells().num_rows == 0
    assert store.cells().schema.names == [c.name for c in CELLS]


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    cells = cells_table("zero", Plane(), 100, 1).drop_columns(["completeness"])
    with pytest.raises(ProgramFault, match="completeness"):
        RunStore(tmp_path).create().write_cells([cells])
    assert not (tmp_path / "cells.parquet").exists()


def test_a_failing_writer_leaves_the_old_table(tmp_path: Path) -> None:
    store = RunStore(tmp_path).create()
    cells = cells_table("zero", Plane(), 100, 1)
    store.write_cells([cells])

    def breaks():
        yield cells
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFull, match="disk is full"):
        store.write_cells(breaks())
    assert store.cells().num_rows == cells.num_rows
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cells.parquet"]


def test_a_full_disk_is_told_from_an_unwritable_one(tmp_path: Path) -> None:
    with pytest.raises(DiskFull), disk_errors(tmp_path), open("/dev/full", "w") as file:  # noqa: PTH123
        file.write("x" * 100_000)
    with pytest.raises(OutputError, match="cannot be written"):
        RunStore(Path("/proc/nothing/here")).create()


def test_a_failed_file_is_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(OutputError), atomic_file(target) as temporary:
        _fails(temporary)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def _fails(path: Path) -> None:
    path.write_text("half")
    raise OSError(errno.EIO, "Input/output error")


def test_json_never_holds_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_publish_replaces_a_result_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "run"
    store = make_run(out, "zero")
    (out / "ish.json").write_text("{}")
    made = make_run(tmp_path / "new", "clustered")
    store.work.mkdir()
    made.out.rename(store.staging.out)
    store.publish()
    assert store.result().score is not None
    assert store.result().score.ihc == "3+"
    assert not (out / "ish.json").exists()
    assert not store.work.exists()


def test_publish_goes_on_where_it_was_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_run(tmp_path / "run", "zero")
    made = make_run(tmp_path / "new", "clustered")
    expected = folder_hash(made.out)
    store.work.mkdir()
    made.out.rename(store.staging.out)
    moves = []
    replace = Path.replace

    def stops(self: Path, target: Path) -> Path:
        if self.parent.name == "staged":
            moves.append(self.name)
            if len(moves) == 4:
                raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", stops)
    with pytest.raises(DiskFull):
        store.publish()
    assert not store.complete
    monkeypatch.setattr(Path, "replace", replace)
    store.publish()
    assert folder_hash(store.out) == expected


def test_nothing_is_published_without_a_result(tmp_path: Path) -> None:
    store = RunStore(tmp_path).create()
    store.staging.create()
    with pytest.raises(OutputError, match="no finished run"):
        store.publish()


def test_a_damaged_result_is_one_line(tmp_path: Path) -> None:
    store = RunStore(tmp_path).create()
    with pytest.raises(OutputError, match="no complete result"):
        store.result()
    store.result_path.write_text("{")
    with pytest.raises(OutputError, match="damaged"):
        store.result()
    for read in (store.cells, store.regions, store.maps, store.gallery, store.thumbnail):
        with pytest.raises(OutputError):
            read()


def test_fingerprints_mark_an_unfinished_run(tmp_path: Path) -> None:
    store = RunStore(tmp_path).create()
    assert store.fingerprint() is None
    store.write_fingerprint({"slide": "abc"})
    assert store.started
    assert store.fingerprint() == {"slide": "abc"}


# -- maps ------------------------------------------------------------------------------------------


def test_maps_are_ome_zarr(run: RunStore) -> None:
    group = zarr.open_group(run.maps_path, mode="r")
    image = OmeImage.from_zarr(group)
    assert len(image.attributes.ome.multiscales[0].datasets) == run.maps().levels
    for name in ("tissue", "qc"):
        ImageLabel.from_zarr(zarr.open_group(run.maps_path / "labels" / name, mode="r"))


def test_maps_come_back_at_every_level(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dab = rng.random((1301, 1700)).astype(np.float32)
    write_maps(tmp_path / "m.zarr", {"dab": dab, "tissue": dab > 0.5}, 4.0)
    maps = Maps(tmp_path / "m.zarr")
    assert maps.names == ("dab", "tissue")
    assert np.abs(maps.read("dab") - dab).max() < 1e-3
    assert np.array_equal(maps.read("tissue"), dab > 0.5)
    assert maps.levels == 3
    assert maps.read("dab", 1).shape == (651, 850)
    assert maps.mpp_um(1) == 8.0
    assert maps.read("dab", 1)[:650].mean() == pytest.approx(dab[:1300].mean(), abs=1e-3)
    with pytest.raises(KeyError):
        maps.read("nothing")


def test_maps_of_unequal_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one shape"):
        write_maps(tmp_path / "m", {"dab": np.zeros((4, 4)), "tissue": np.zeros((5, 4))}, 1.0)


def test_a_large_slide_leaves_at_most_100_files(tmp_path: Path) -> None:
    big = np.zeros((9000, 11000), np.float16)
    mask = np.zeros(big.shape, bool)
    names = ("hematoxylin", "dab", "score_density")
    write_maps(tmp_path / "m", {**dict.fromkeys(names, big), "tissue": mask, "qc": mask}, 4.0)
    make_run(tmp_path / "run", "clustered")
    shutil.rmtree(tmp_path / "run" / "maps.zarr")
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) - 1 + tables_module.MAX_PARTS <= 100


# -- gallery ---------------------------------------------------------------------------------------


def test_gallery_comes_back(run: RunStore) -> None:
    gallery = run.gallery()
    assert gallery.patches.shape == (gallery.table.num_rows, 64, 64, 3)
    assert set(gallery.table["pattern"].to_pylist()) <= set(run.cells()["pattern"].to_pylist())
    assert gallery.table["borderline"].to_numpy().any()


def test_an_empty_gallery_can_be_read(tmp_path: Path) -> None:
    table = pa.table(
        {
            "cell_id": pa.array([], pa.int64()),
            "pattern": pa.array([], pa.string()),
            "borderline": pa.array([], pa.bool_()),
            "x_px": pa.array([], pa.float32()),
            "y_px": pa.array([], pa.float32()),
            "mpp": pa.array([], pa.float32()),
        }
    )
    write_gallery(tmp_path / "g", np.zeros((0, 64, 64, 3), np.uint8), table)
    assert read_gallery(tmp_path / "g").table.num_rows == 0
    with pytest.raises(ValueError, match="patches of shape"):
        write_gallery(tmp_path / "g", np.zeros((1, 64, 64, 3), np.uint8), table)


def test_importing_the_store_needs_no_plotting_and_no_slide() -> None:
    code = (
        "import sys, her2path.io.store; "
        "bad = {'matplotlib', 'openslide', 'dask', 'numba', 'cv2', 'torch'} & set(sys.modules); "
        "assert not bad, bad"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
