"""What a reader drew: only cells in tumour count, none in situ; undone, all is as before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from fake_batch import make_batch
from fake_run import Plane, make_run
from typer.testing import CliRunner
from viewing import call, viewing

from her2path.cli.app import app
from her2path.core.errors import AnnotationError, UsageError
from her2path.core.settings import Settings
from her2path.io.annotations import read_annotations
from her2path.io.store import RunStore
from her2path.outputs.export import export
from her2path.outputs.viewer.ledger import Ledger, region_feature
from her2path.runs.case.rescore import rescore
from her2path.runs.cohort.rescoring import rescore_batch
from her2path.runs.cohort.tables import read_rows

BOX = [[100.0, 100.0], [1000.0, 100.0], [1000.0, 900.0], [100.0, 900.0]]
HOLE = [[300.0, 300.0], [700.0, 300.0], [700.0, 600.0], [300.0, 600.0]]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run") / "a", "clustered", plane=Plane(1536, 1024)).out


@pytest.fixture
def out(scored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scored, tmp_path / "a"))


def save(out: Path, *areas: tuple[list, str], cells: list | None = None) -> Path:
    path = out / "corrections.geojson"
    features = [region_feature([ring], kind, None, "AB") for ring, kind in areas] + (cells or [])
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def inside(out: Path, ring: list) -> np.ndarray:
    table = RunStore(out).cells(["x_px", "y_px"])
    points = shapely.points(table["x_px"].to_numpy(), table["y_px"].to_numpy())
    return np.asarray(shapely.contains(shapely.Polygon(ring), points))


def tumour(out: Path) -> np.ndarray:
    return np.array([t == "tumour" for t in RunStore(out).cells(["cell_type"])[0].to_pylist()])


def test_only_marked_tumour_counts_and_what_is_in_situ_does_not(out: Path) -> None:
    before, box, hole = tumour(out), inside(out, BOX), inside(out, HOLE)
    rescore(out, corrections=save(out, (BOX, "tumour"), (HOLE, "in situ")))
    result = RunStore(out).result()
    assert np.array_equal(tumour(out), before & box & ~hole)
    assert result.counts.tumour == int((before & box & ~hole).sum()) > 100
    assert result.tumour_selection == "annotation"
    codes = {f.code for f in result.qc.flags}
    assert "READER_CORRECTED" in codes
    assert "IN_SITU_NOT_EXCLUDED" not in codes
    assert result.model_extra["corrections"] == {"cells": 0, "areas": 2, "readers": ["AB"]}
    table = RunStore(out).cells().to_pylist()
    changed = [c for c in table if c["cell_type"] != c["machine_cell_type"]]
    assert {c["reader"] for c in changed} == {"AB"}
    assert all(c["reader"] is None for c in table if c["cell_type"] == c["machine_cell_type"])


def test_left_out_tissue_alone_selects_nothing_else(out: Path) -> None:
    before, hole = tumour(out), inside(out, HOLE)
    rescore(out, corrections=save(out, (HOLE, "control 3+"), (BOX, "other")))
    result = RunStore(out).result()
    assert np.array_equal(tumour(out), before & ~hole)
    assert result.tumour_selection == "morphology"
    assert "IN_SITU_NOT_EXCLUDED" in {f.code for f in result.qc.flags}
    # an area of a class that means nothing takes no part, and is not counted as if it did
    assert result.model_extra["corrections"]["areas"] == 1


def test_taken_back_all_is_as_the_program_had_it(out: Path) -> None:
    rescore(out)
    first = json.loads((out / "result.json").read_text())
    types = tumour(out)
    rescore(out, corrections=save(out, (BOX, "tumour")))
    assert not np.array_equal(tumour(out), types)
    rescore(out, corrections=save(out, (HOLE, "necrosis")))  # another file replaces the first
    assert np.array_equal(tumour(out), types & ~inside(out, HOLE))
    rescore(out)
    again = json.loads((out / "result.json").read_text())
    for tree in (first, again):
        tree.pop("provenance")
    assert again == first
    assert np.array_equal(tumour(out), types)


def test_a_cell_that_was_looked_at_keeps_what_was_said_of_it(out: Path) -> None:
    table = RunStore(out).cells(["cell_id", "x_px", "y_px"]).to_pylist()
    far = next(c for c, i in zip(table, inside(out, BOX), strict=True) if not i)
    ledger = Ledger(RunStore(out))
    ledger.mark_region(BOX, "tumour", None, "AB")
    cell = {**far, "pattern": "none", "cell_type": "tumour"}
    ledger.correct_cell(cell, "faint_complete", "tumour", "CD")
    rescore(out, corrections=ledger.path)
    row = next(c for c in RunStore(out).cells().to_pylist() if c["cell_id"] == far["cell_id"])
    assert (row["cell_type"], row["pattern"], row["reader"]) == ("tumour", "faint_complete", "CD")
    extra = RunStore(out).result().model_extra["corrections"]
    assert (extra["cells"], extra["areas"], extra["readers"]) == (1, 1, ["AB", "CD"])


def test_a_reader_may_add_to_the_areas_that_the_run_was_given(out: Path) -> None:
    store = RunStore(out)
    given, added = BOX, [[1100.0, 100.0], [1400.0, 100.0], [1400.0, 900.0], [1100.0, 900.0]]
    like = np.asarray(store.cells(["tumour_probability"])[0]) >= 0.5
    rescore(out, corrections=save(out, (given, "tumour")))
    # as if the run had been given these areas: outside of them every cell is "other"
    cells = store.cells().drop_columns(
        ["machine_pattern", "machine_cell_type", "reader", "reader_time"]
    )
    store.write_cells([cells])
    tree = json.loads((out / "result.json").read_text())
    for name in ("machine_flags", "machine_tumour_selection", "corrections"):
        tree.pop(name)
    (out / "result.json").write_text(json.dumps(tree))
    shape = {"type": "Polygon", "coordinates": [[*given, given[0]]]}
    (out / "annotations.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [
        {"type": "Feature", "geometry": shape, "properties": {
            "name": "g", "classification": {"name": "Tumor"}, "role": "tumour"}}]}))  # fmt: skip
    rescore(out, corrections=save(out, (added, "tumour")))
    assert np.array_equal(tumour(out), like & (inside(out, given) | inside(out, added)))


def test_too_little_tumour_left_changes_nothing(out: Path) -> None:
    before = (out / "result.json").read_bytes()
    tiny = [[100.0, 100.0], [110.0, 100.0], [110.0, 110.0]]
    from her2path.core.errors import NotEvaluable

    with pytest.raises(NotEvaluable):
        rescore(out, corrections=save(out, (tiny, "tumour")))
    assert (out / "result.json").read_bytes() == before


# -- from the viewer, and from QuPath --------------------------------------------------------------


def post(viewer: Any, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    status, _, answer = call(viewer, path, body)
    return status, json.loads(answer)


def test_drawn_rescored_and_reopened(out: Path) -> None:
    with viewing(out) as viewer:
        status, made = post(
            viewer,
            "/corrections",
            {"action": "region", "ring": BOX, "class": "tumour", "reader": "AB"},
        )
        assert status == 200
        status, told = post(viewer, "/rescore", {})
        assert status == 200, told
        assert told["after"]["corrections"]["areas"] == 1
        assert told["after"]["tumour_cells"] < told["before"]["tumour_cells"]
        assert b"rests on" in call(viewer, "/")[2]
        # the overlay shows it at once
        x, y = (float(v) for v in np.mean(BOX, axis=0))
        found = json.loads(call(viewer, f"/at?x={x}&y={y}")[2])
        assert found["region"] is not None
    with viewing(out) as viewer:
        (area,) = json.loads(call(viewer, "/corrections")[2])
        assert area["rings"][0] == BOX
        assert area["id"] == made["id"]


def test_a_shape_is_changed_and_every_step_undone(out: Path) -> None:
    with viewing(out) as viewer:
        _, made = post(
            viewer,
            "/corrections",
            {"action": "region", "ring": BOX, "class": "tumour", "reader": "AB"},
        )
        _, before = post(viewer, "/corrections", {"action": "change", "id": made["id"],
                                                  "rings": [HOLE], "class": "normal",
                                                  "reader": "CD"})  # fmt: skip
        (now,) = json.loads(call(viewer, "/corrections")[2])
        assert (now["rings"], now["properties"]["reader"]) == ([HOLE], "CD")
        assert now["properties"]["classification"]["name"] == now["properties"]["name"] == "normal"
        assert post(viewer, "/corrections", {"action": "restore", "feature": before})[0] == 200
        (now,) = json.loads(call(viewer, "/corrections")[2])
        assert (now["rings"], now["properties"]["reader"]) == ([BOX], "AB")
        _, gone = post(viewer, "/corrections", {"action": "remove", "id": made["id"]})
        assert json.loads(call(viewer, "/corrections")[2]) == []
        assert (
            post(viewer, "/corrections", {"action": "restore", "feature": gone["feature"]})[0]
            == 200
        )
        assert len(json.loads(call(viewer, "/corrections")[2])) == 1
        forged = {**gone["feature"], "properties": {"reader": "somebody else"}}
        assert post(viewer, "/corrections", {"action": "restore", "feature": forged})[0] == 400
        for body in (
            {"action": "change", "id": "x", "reader": "AB"},
            {"action": "change", "id": made["id"], "rings": [], "reader": "AB"},
            {"action": "change", "id": made["id"], "rings": [[[0, 0]]], "reader": "AB"},
            {"action": "change", "id": made["id"], "class": "x", "reader": "AB"},
        ):
            assert post(viewer, "/corrections", body)[0] == 400, body  # fmt: skip


def test_corrected_cells_show_their_new_class(out: Path) -> None:
    with viewing(out) as viewer:
        cell = next(
            c
            for c in RunStore(out).cells().to_pylist()
            if c["pattern"] == "intense_complete" and c["cell_type"] == "tumour"
        )
        column, line = int(cell["x_px"] // 256), int(cell["y_px"] // 256)
        where = f"/tile/overlay/{viewer.tiles.plane.z_max}/{column}/{line}?layers=cells"
        before = call(viewer, where)[2]
        body = {"action": "cell", "cell_id": str(cell["cell_id"]), "pattern": "none",
                "reader": "AB"}  # fmt: skip
        status, made = post(viewer, "/corrections", body)
        assert status == 200
        row = int(viewer.tiles.index.rows_of(np.array([cell["cell_id"]]))[0])
        assert (viewer.tiles.index.cells.score[row], viewer.tiles.index.corrected[row]) == (0, True)
        assert call(viewer, where)[2] != before
        post(viewer, "/corrections", {"action": "remove", "id": made["id"]})
        assert call(viewer, where)[2] == before


QUPATH = {"type": "FeatureCollection", "features": [
    {"type": "Feature", "id": "1", "geometry": {"type": "Polygon", "coordinates": [
        [*BOX, BOX[0]], [*HOLE, HOLE[0]]]},
     "properties": {"objectType": "annotation", "name": "Nest <A>",
                    "classification": {"name": "Tumor", "color": [200, 0, 0]}}},
    {"type": "Feature", "id": "2", "geometry": {"type": "Polygon", "coordinates": [
        [*HOLE, HOLE[0]]]},
     "properties": {"objectType": "annotation", "classification": {"name": "My own class"}}},
]}  # fmt: skip


def test_areas_from_qupath_come_in_and_go_out(out: Path, tmp_path: Path) -> None:
    with viewing(out) as viewer:
        body = {"text": json.dumps(QUPATH), "reader": "AB"}
        assert post(viewer, "/import", body) == (200, {"taken": 2})
        for wrong in ("no json", "{}", json.dumps({"type": "FeatureCollection", "features": []})):
            assert post(viewer, "/import", {**body, "text": wrong})[0] == 400
        away = json.loads(call(viewer, "/areas.geojson")[2])
        status, told = post(viewer, "/rescore", {})
        assert status == 200
        assert told["after"]["corrections"]["areas"] == 1
    assert np.array_equal(tumour(out) & inside(out, HOLE), np.zeros(len(tumour(out)), bool))
    export(out, "geojson", tmp_path / "q")
    exported = json.loads((tmp_path / "q" / "annotations.geojson").read_text())
    for tree in (away, exported):
        assert [f["properties"].get("name") for f in tree["features"]] == ["Nest <A>", ""]
        names = [f["properties"]["classification"]["name"] for f in tree["features"]]
        assert names == ["Tumor", "My own class"]
        assert tree["features"][0]["geometry"]["coordinates"][1][0] == HOLE[0]
    read = read_annotations(tmp_path / "q" / "annotations.geojson", Settings().tumour)
    assert [a.role for a in read.items] == ["tumour", "other"]
    # drawn in QuPath, given straight to rescore
    file = tmp_path / "qupath.geojson"
    file.write_text(json.dumps(QUPATH["features"]))
    rescore(out, corrections=file)
    assert RunStore(out).result().model_extra["corrections"]["areas"] == 1


def test_what_the_program_sees_can_be_accepted(out: Path) -> None:
    with viewing(out) as viewer:
        (first, *_) = json.loads(call(viewer, "/proposals")[2])
        assert first["tumour_cells"] == pytest.approx(int(tumour(out).sum()), rel=0.1)
        status, _ = post(
            viewer,
            "/corrections",
            {"action": "region", "ring": first["ring"], "class": "tumour", "reader": "AB"},
        )
        assert status == 200
        before = tumour(out).sum()
        post(viewer, "/rescore", {})
    assert 0.9 < tumour(out).sum() / before <= 1


# -- the command, and batches ----------------------------------------------------------------------


def test_the_command_says_what_it_applied(out: Path, tmp_path: Path) -> None:
    save(out, (BOX, "tumour"))
    ran = CliRunner().invoke(app, ["rescore", str(out)])
    assert ran.exit_code == 0
    assert "0 corrected cells and 1 areas applied." in ran.stderr
    ran = CliRunner().invoke(app, ["rescore", str(out), "--corrections", "none"])
    assert "0 corrected cells and 0 areas applied." in ran.stderr
    (out / "corrections.geojson").write_text("{")
    with pytest.raises(AnnotationError):
        rescore(out, corrections=out / "corrections.geojson")


@pytest.mark.slow
def test_a_batch_is_rescored_and_exported_as_one(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "OUT")
    before = {r["slide_id"]: r for r in read_rows(batch / "slides.csv")}
    save(batch / "slides" / "S4", (BOX, "tumour"))
    result, applied = rescore_batch(batch, guideline="gastric_resection")
    assert (applied.slides, applied.areas, applied.failed) == (4, 1, {})
    assert result.exit_code == 0
    after = {r["slide_id"]: r for r in read_rows(batch / "slides.csv")}
    assert list(after) == list(before)
    assert {r["guideline"] for r in after.values() if r["ihc"]} == {"gastric_resection"}
    assert int(after["S4"]["tumour_cells"]) < int(before["S4"]["tumour_cells"])
    cases = {r["case_id"]: r for r in read_rows(batch / "cases.csv")}
    assert cases["C4"]["tumour_cells"] == after["S4"]["tumour_cells"]
    assert after["S4"]["specimen"] == before["S4"]["specimen"] == "resection"
    export(batch, "csv", tmp_path / "csv")
    assert sorted(p.name for p in (tmp_path / "csv").iterdir()) == ["S1", "S2", "S3", "S4", "S5"]
    (batch / "cases" / "C1" / "ish.json").write_text("{}")
    with pytest.raises(UsageError, match="--manifest"):
        rescore_batch(batch)
