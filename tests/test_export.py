"""Exports, opened by the libraries that users would open them with."""

import csv
import json
import tracemalloc
from pathlib import Path

import anndata
import highdicom
import numpy as np
import pyarrow as pa
import pydicom
import pytest
import shapely
import zarr
from fake_run import MPP, Plane, cells_table, make_run
from ome_zarr_models.v05.image import Image as OmeImage
from ome_zarr_models.v05.image_label import ImageLabel

from her2path.core import _optional
from her2path.core.errors import MissingExtra, OutputError, UsageError
from her2path.core.schema import INTENSITY, PATTERNS
from her2path.core.settings import TumourSettings
from her2path.io.annotations import read_annotations
from her2path.io.store import Maps, RunStore
from her2path.outputs.export import FORMATS, dicom, export, export_regions, geojson
from her2path.outputs.export.csvfiles import safe_text


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return make_run(tmp_path_factory.mktemp("export") / "run", "clustered")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A run that was not evaluable and left no tables at all."""
    store = make_run(tmp_path_factory.mktemp("export") / "run", "not_evaluable")
    store.regions_path.unlink()
    for path in store.cells_path.iterdir():
        path.unlink()
    store.cells_path.rmdir()
    return store


def test_an_unknown_format_lists_the_valid_ones(run: RunStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="geojson, anndata, spatialdata, ome-zarr, csv, dicom"):
        export(run.out, "xlsx", tmp_path)
    with pytest.raises(OutputError, match="no complete result"):
        export(tmp_path, "csv")
    assert list(tmp_path.iterdir()) == []


def test_the_default_place_is_inside_out(tmp_path: Path) -> None:
    store = make_run(tmp_path / "run", "zero")
    assert export(store.out, "csv").is_relative_to(store.out)


@pytest.mark.parametrize("module", ["anndata", "highdicom", "spatialdata"])
def test_a_missing_package_is_named_with_its_extra(
    module: str, run: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _optional.importlib.import_module

    def without(name: str):
        if name.split(".")[0] == module:
            raise ImportError(f"No module named {name!r}")
        return real(name)

    monkeypatch.setattr(_optional.importlib, "import_module", without)
    to = {"anndata": "anndata", "highdicom": "dicom", "spatialdata": "spatialdata"}[module]
    with pytest.raises(MissingExtra, match=rf"pip install 'her2path\[{to}\]'"):
        export(run.out, to, tmp_path)


# -- GeoJSON ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def features(run: RunStore, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = export(run.out, "geojson", tmp_path_factory.mktemp("geojson"))
    return json.loads((folder / "cells.geojson").read_text())["features"]


def test_cells_have_border_nucleus_classes_and_measurements(run: RunStore, features) -> None:
    cells = run.cells().to_pylist()
    assert len(features) == len(cells)
    for feature, cell in zip(features[::97], cells[::97], strict=True):
        made = feature["properties"]
        assert made["objectType"] == "cell"
        border, nucleus = (shapely.geometry.shape(feature[k])
                           for k in ("geometry", "nucleusGeometry"))  # fmt: skip
        assert nucleus.area < border.area
        side = run.result().slide.mpp
        radii = np.array(cell["nucleus_outline"][::2]) / 100 / side
        reach = [shapely.Point(cell["x_px"], cell["y_px"]).distance(shapely.Point(p))
                 for p in nucleus.exterior.coords[:-1]]  # fmt: skip
        np.testing.assert_allclose(reach, radii, atol=0.15)
        assert made["measurements"]["Completeness"] == pytest.approx(cell["completeness"], abs=1e-4)
        assert made["measurements"]["Score"] == cell["score"]
        assert made["metadata"]["pattern"] == cell["pattern"]
        names = made["classification"]["names"]
        if cell["cell_type"] == "tumour":
            expected = ("Negative", "1+", "2+", "3+")[INTENSITY[cell["pattern"]]]
            assert names == ["Tumor", expected]
        else:
            assert names == ["Other"]
        assert len(made["classification"]["color"]) == 3
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.is_valid
        assert shape.contains(shapely.Point(cell["x_px"], cell["y_px"]))
        area = np.mean(np.square(np.array(cell["outline"]) / 100)) * np.pi
        assert shape.area * MPP**2 == pytest.approx(area, rel=0.03)


def test_ids_are_unique_and_the_h_score_is_ours(run: RunStore, features) -> None:
    assert len({f["id"] for f in features}) == len(features)
    tumour = [
        f["properties"]["classification"]["names"][-1]
        for f in features
        if len(f["properties"]["classification"]["names"]) == 2
    ]
    h_score = 100 * np.mean([("Negative", "1+", "2+", "3+").index(n) for n in tumour])
    assert h_score == pytest.approx(run.result().h_score)


def test_regions_are_annotations(run: RunStore) -> None:
    path = export_regions(run.out)
    assert path == run.out / "regions.geojson"
    rows = run.regions().to_pylist()
    for feature, row in zip(json.loads(path.read_text())["features"], rows, strict=True):
        made = feature["properties"]
        assert made["objectType"] == "annotation"
        assert made["classification"]["name"] == f"HER2 {row['area_class']}"
        assert made["measurements"].get("positive_fraction") == row["positive_fraction"]
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.area * MPP**2 == pytest.approx(shapely.from_wkb(row["polygon"]).area, rel=1e-3)


def test_our_own_reader_takes_the_regions_back(run: RunStore) -> None:
    read = read_annotations(export_regions(run.out), TumourSettings())
    assert len(read.items) == run.regions().num_rows


def test_qupath_crop_takes_the_bounds_off(tmp_path: Path) -> None:
    store = make_run(tmp_path / "run", "zero")
    with pytest.raises(UsageError, match="bounds are not stored"):
        export(store.out, "geojson", tmp_path / "x", qupath_crop=True)
    tree = json.loads(store.result_path.read_text())
    tree["slide"]["bounds_px"] = [1000, 200, 3000, 3000]
    store.result_path.write_text(json.dumps(tree))
    plain = export(store.out, "geojson", tmp_path / "plain") / "cells.geojson"
    crop = export(store.out, "geojson", tmp_path / "crop", qupath_crop=True) / "cells.geojson"
    first, second = (
        np.array(json.loads(p.read_text())["features"][5]["geometry"]["coordinates"][0])
        for p in (plain, crop)
    )
    assert np.allclose(first - second, [1000, 200], atol=0.11)
    with pytest.raises(UsageError, match="does not go with csv"):
        export(store.out, "csv", tmp_path, qupath_crop=True)


def test_geojson_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geojson, "_BATCH", 500)
    store = make_run(tmp_path / "run", "zero")
    few = _peak(store, tmp_path / "a.geojson")
    cells = cells_table("zero", Plane(), 52, 1)
    store.write_cells([cells] * 8, rows=8 * cells.num_rows)
    many = _peak(store, tmp_path / "b.geojson")
    size = [(tmp_path / f"{n}.geojson").stat().st_size for n in "ab"]
    assert size[1] > 7 * size[0]
    assert many < 1.3 * few


def _peak(store: RunStore, path: Path) -> int:
    tracemalloc.start()
    try:
        geojson.write_cells(store, path, (0.0, 0.0))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# -- tables ----------------------------------------------------------------------------------------


def test_anndata_has_cells_where_scverse_looks(run: RunStore, tmp_path: Path) -> None:
    data = anndata.read_h5ad(export(run.out, "anndata", tmp_path))
    cells = run.cells()
    assert data.n_obs == cells.num_rows
    assert list(data.obs_names[:3]) == [str(v) for v in cells["cell_id"].to_pylist()[:3]]
    assert np.array_equal(data.obsm["spatial"][:, 0], cells["x_px"].to_numpy())
    assert np.array_equal(data[:, "completeness"].X[:, 0], cells["completeness"].to_numpy())
    assert data.obs["pattern"].astype(str).tolist() == cells["pattern"].to_pylist()
    (library,) = data.uns["spatial"].values()
    assert library["scalefactors"]["tissue_hires_scalef"] == 0.25
    assert library["images"]["hires"].shape == (768, 1024, 3)
    stored = json.loads(data.uns["her2path"]["result_json"])
    assert stored["score"]["ihc"] == "3+"


def test_csv_is_the_table(run: RunStore, tmp_path: Path) -> None:
    folder = export(run.out, "csv", tmp_path)
    with (folder / "cells.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    cells = run.cells().to_pylist()
    assert len(rows) == len(cells)
    assert rows[7]["pattern"] == cells[7]["pattern"]
    assert float(rows[7]["x_um"]) == pytest.approx(cells[7]["x_um"])
    assert not {"outline", "nucleus_outline"} & set(rows[0])
    with (folder / "regions.csv").open(newline="") as file:
        regions = list(csv.DictReader(file))
    assert {r["category"] for r in regions} == {"HER2-positive", "HER2-low", ""}
    assert shapely.from_wkt(regions[0]["polygon"]).area == pytest.approx(250**2)


def test_csv_text_is_no_formula() -> None:
    column = pa.chunked_array([["=1+1", "+x", "-x", "@x", "\tx", "2+", "square 1", None]])
    assert safe_text(column).to_pylist() == [
        "'=1+1",
        "'+x",
        "'-x",
        "'@x",
        "'\tx",
        "2+",
        "square 1",
        None,
    ]


# -- OME-Zarr --------------------------------------------------------------------------------------


def test_ome_zarr_is_valid_and_has_the_regions(run: RunStore, tmp_path: Path) -> None:
    path = export(run.out, "ome-zarr", tmp_path)
    OmeImage.from_zarr(zarr.open_group(path, mode="r"))
    label = ImageLabel.from_zarr(zarr.open_group(path / "labels" / "regions", mode="r"))
    assert label.attributes.ome.image_label is not None
    maps = Maps(path)
    assert "regions" in maps.names
    drawn = maps.read("regions")
    mpp = maps.mpp_um()
    for row in run.regions().to_pylist():
        point = shapely.from_wkb(row["polygon"]).centroid
        if point.x / mpp < drawn.shape[1] and point.y / mpp < drawn.shape[0]:
            assert drawn[int(point.y / mpp), int(point.x / mpp)] == row["region_id"] + 1


# -- DICOM -----------------------------------------------------------------------------------------


def test_dicom_annotations_come_back(run: RunStore, tmp_path: Path) -> None:
    folder = export(run.out, "dicom", tmp_path)
    read = highdicom.ann.annread(folder / "annotations.dcm")
    cells = run.cells().to_pylist()
    tumour = [c for c in cells if c["cell_type"] == "tumour"]
    groups = read.get_annotation_groups()
    assert sum(int(g.NumberOfAnnotations) for g in groups) == len(tumour)
    strong = [c for c in tumour if c["pattern"] == PATTERNS[-1]]
    group = groups[-1]
    outlines = group.get_graphic_data(coordinate_type="2D")
    assert len(outlines) == len(strong)
    assert outlines[3].mean(axis=0) == pytest.approx(
        [strong[3]["x_px"], strong[3]["y_px"]], abs=0.2
    )
    names, values, _ = group.get_measurements()
    assert [n.value for n in names] == ["MEMBRANE_OD", "COMPLETENESS"]
    assert values[:, 1] == pytest.approx([c["completeness"] for c in strong])


def test_dicom_report_holds_the_numbers(run: RunStore, tmp_path: Path) -> None:
    path = export(run.out, "dicom", tmp_path) / "report.dcm"
    report = highdicom.sr.srread(path)
    (group,) = report.content.get_image_measurement_groups()
    numbers = {m.name.value: m.value for m in group.get_measurements()}
    result = run.result()
    assert numbers["H_SCORE"] == pytest.approx(result.h_score)
    assert numbers["TUMOUR_CELLS"] == result.counts.tumour
    assert numbers["FRACTION_6"] == pytest.approx(result.fractions["intense_complete"])
    found = {e.name.value: e.value.meaning for e in group.get_qualitative_evaluations()}
    assert found["IHC_SCORE"] == "HER2 IHC score 3+"
    assert found["CATEGORY"] == "HER2 positive"


def test_dicom_is_the_same_twice_but_for_times(run: RunStore, tmp_path: Path) -> None:
    paths = [export(run.out, "dicom", tmp_path / n) / "annotations.dcm" for n in "ab"]
    first, second = (pydicom.dcmread(p) for p in paths)
    for one in (first, second):
        for name in ("ContentDate", "ContentTime", "InstanceCreationDate", "InstanceCreationTime"):
            if name in one:
                delattr(one, name)
        one.ContributingEquipmentSequence = []
    assert first == second


def test_many_cells_become_points(
    run: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom, "MAX_OUTLINES", 100)
    read = highdicom.ann.annread(export(run.out, "dicom", tmp_path) / "annotations.dcm")
    assert {g.graphic_type.value for g in read.get_annotation_groups()} == {"POINT"}


# -- nothing to export -----------------------------------------------------------------------------


@pytest.mark.parametrize("to", [f for f in FORMATS if f not in ("spatialdata", "anndata")])
def test_a_run_without_cells_still_exports(to: str, empty: RunStore, tmp_path: Path) -> None:
    made = export(empty.out, to, tmp_path)
    assert made.exists()
    if to == "geojson":
        assert json.loads((made / "cells.geojson").read_text())["features"] == []
    if to == "dicom":
        assert not (made / "annotations.dcm").exists()
        assert (made / "report.dcm").exists()


def test_anndata_without_cells_says_what_is_missing(empty: RunStore, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cells.parquet is missing"):
        export(empty.out, "anndata", tmp_path)
    assert not (tmp_path / "cells.h5ad").exists()


@pytest.mark.filterwarnings("ignore")
def test_spatialdata_has_cells_as_labels_and_the_stains(run: RunStore, tmp_path: Path) -> None:
    spatialdata = pytest.importorskip("spatialdata")
    export(run.out, "spatialdata", tmp_path)
    sdata = spatialdata.read_zarr(tmp_path / "her2path.sdata.zarr")
    labels = spatialdata.get_pyramid_levels(sdata.labels["cell_labels"], n=0).to_numpy()
    table = sdata.tables["table"].obs
    cells = run.cells(["cell_id", "x_um", "y_um"]).to_pandas().set_index("cell_id")
    seen = table.set_index("cell_id")["cell_label"]
    x, y = (cells.loc[seen.index, f"{k}_um"].to_numpy() / 0.5 for k in "xy")
    assert (labels[y.astype(int), x.astype(int)] == seen.to_numpy()).mean() > 0.99
    assert labels.max() == len(table)
    assert len(list(sdata.labels["cell_labels"].keys())) > 1  # multiscale
    stains = spatialdata.get_pyramid_levels(sdata.images["stains"], n=0)
    assert list(stains.coords["c"].values) == ["hematoxylin", "dab"]
    np.testing.assert_allclose(stains.sel(c="dab").to_numpy(), run.maps().read("dab"), rtol=1e-6)
