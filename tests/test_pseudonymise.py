"""One marked string in every place where text can enter, searched for in all that comes out."""

from __future__ import annotations

import io
import json
import logging
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import pyarrow.parquet as pq
import pytest
import tifffile
from cohort_samples import SETTINGS, linked, manifest, rows_of

from her2path import api
from her2path.core.errors import OutputError, UsageError
from her2path.outputs import report
from her2path.outputs.export import FORMATS, export
from her2path.runs.case import RunOptions, score_slide
from her2path.runs.cohort import BatchOptions, ReportWriters, run_batch
from her2path.runs.cohort.hiding import clean, hide_names
from her2path.runs.cohort.manifest import Entry

MARK = "Zaphod"
FORMS = [f for f in FORMATS if f != "spatialdata" or find_spec("spatialdata") is not None]
REPORTS = ReportWriters(slide=api.write_reports, case=report.build_case, index=report.build_index)
RING = [[20, 20], [700, 20], [700, 700], [20, 700], [20, 20]]


CORNER = [[x / 40, y / 40] for x, y in RING]


def area(word: str | None, ring: Any = RING, **more: Any) -> dict[str, Any]:
    given = {"classification": {"name": word}} if word else {}
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"objectType": "annotation", **given, **more}}  # fmt: skip


def marked(out: Path) -> list[str]:
    """Return where the mark stands: names, bytes, and what compression hides."""
    found = []
    for path in sorted(out.rglob("*")):
        if MARK.casefold() in path.name.casefold():
            found.append(f"name of {path}")
        if not path.is_file():
            continue
        data = path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            data += f"{table.schema}{table.drop_columns(_long(table)).to_pylist()}".encode()
        if path.suffix == ".h5ad":
            data += _h5_texts(path)
        if MARK.casefold().encode() in data.lower():
            found.append(str(path))
    return found


def _h5_texts(path: Path) -> bytes:
    """Return names, attributes and text of an HDF5 file, which compression may hide."""
    told = io.StringIO()

    def tell(name: str, node: Any) -> None:
        print(name, dict(node.attrs), file=told)
        if isinstance(node, h5py.Dataset) and h5py.check_string_dtype(node.dtype) is not None:
            print(node.asstr()[()], file=told)

    with h5py.File(path) as file:
        file.visititems(tell)
    return told.getvalue().encode()


def _long(table: Any) -> list[str]:
    return [f.name for f in table.schema if f.name in ("outline", "polygon")]


def slide_with_texts(folder: Path) -> Path:
    """Return a slide whose own name, folder and description hold the mark."""
    home = linked(folder, 1)
    path = home / f"{MARK}_1.svs"
    rgb = tifffile.imread(home / "s0.svs")
    about = f"Aperio Image Library\r\n|AppMag = 40|MPP = 0.25|User = {MARK}|Filename = {MARK}"
    tifffile.imwrite(path, rgb, photometric="rgb", tile=(256, 256), compression="deflate",
                     description=about, metadata=None)  # fmt: skip
    (home / "s0.svs").unlink()
    return path


def test_one_slide_with_everything_marked(tmp_path: Path) -> None:
    slide = slide_with_texts(tmp_path / f"in {MARK}")
    drawn = slide.with_name(f"{MARK}.geojson")
    drawn.write_text(json.dumps([
        area(f"{MARK}oma", name=f"Frau {MARK}"), area(f"Dr {MARK}"), area(None, name=MARK),
        area(f"Tumor: {MARK}", name=MARK), area(MARK, objectType=f"{MARK}-thing"),
        # what is left out is a corner of the tumour
        area(f"{MARK}: control", CORNER), area(f"not {MARK}", CORNER),
        {"type": "Feature", "geometry": {"type": MARK}, "properties": {"name": MARK}},
    ]))  # fmt: skip
    settings = SETTINGS.replace({
        "tumour.classes": [f"{MARK}oma", "tumor"], "tumour.exclude": [f"not {MARK}"],
        "regions.kind": "annotation",
    })  # fmt: skip
    hidden = RunOptions(pseudonymise=True, reports=api.write_reports)
    result = score_slide(slide, tmp_path / "out", settings, drawn, hidden).result
    assert result.tumour_selection == "annotation"
    codes = {f.code: f.message for f in result.qc.flags}
    assert "'class 1' (1)" in codes["ANNOTATION_CLASSES_UNKNOWN"]
    for form in FORMS:
        export(tmp_path / "out", form, tmp_path / "out" / "exports" / form)
    assert marked(tmp_path / "out") == []
    # the mark would be found: with names it is everywhere
    named = RunOptions(reports=api.write_reports)
    score_slide(slide, tmp_path / "named", settings, drawn, named)
    where = {Path(p).name for p in marked(tmp_path / "named")}
    assert {"result.json", "annotations.geojson", "regions.parquet", "report.html",
            "settings.yaml"} <= where  # fmt: skip
    export(tmp_path / "named", "anndata", tmp_path / "exported")
    assert marked(tmp_path / "exported") != []
    # a result with names is not taken for one without
    with pytest.raises(OutputError, match="with names"):
        score_slide(slide, tmp_path / "named", settings, drawn, hidden)
    score_slide(
        slide,
        tmp_path / "named",
        settings,
        drawn,
        RunOptions(pseudonymise=True, overwrite=True, reports=api.write_reports),
    )
    assert marked(tmp_path / "named") == []


def test_a_batch_with_everything_marked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = tmp_path / f"in {MARK}"
    slide_with_texts(home)
    for n in range(1, 4):
        os.link(home / f"{MARK}_1.svs", home / f"{MARK}_{n + 1}.svs")
    (home / f"{MARK}_5.svs").write_bytes(b"nothing")
    drawn = home / f"drawn {MARK}"
    drawn.mkdir()
    (drawn / f"{MARK}_2.geojson").write_text("{")
    (drawn / f"{MARK}_3.geojson").write_text(json.dumps([area(f"Dr {MARK}")]))
    (home / f"{MARK}.csv").write_text(
        "case_id,area_id,slide_id,cell_id,her2,cep17\n"
        + "".join(f"{MARK},{MARK}-{i % 2},{MARK},{MARK}{i},{2 + i % 3},2\n" for i in range(60))
    )
    (home / f"tma {MARK}.csv").write_text("row,col,case_id\n1,1,k1\n1,2,k2\n")
    free = {c: f"{c} {MARK}" for c in ("specimen", "timepoint", "reader_score", "scanner",
                                       "stainer", "clone", "batch", "note", MARK)}  # fmt: skip
    rows = [
        {"slide": f"{MARK}_1.svs", "slide_id": f"{MARK} A", "ish": f"{MARK}.csv", **free},
        {"slide": f"{MARK}_2.svs", "slide_id": f"{MARK}_2", **free},
        {"slide": f"{MARK}_3.svs", "slide_id": f"{MARK}_3"},
        {"slide": f"{MARK}_4.svs", "slide_id": f"{MARK}_4", "tma_map": f"tma {MARK}.csv"},
        {"slide": f"{MARK}_5.svs", "slide_id": f"{MARK}_5"},
    ]
    how = BatchOptions(pseudonymise=True, annotations=drawn, reports=REPORTS, debug=True)
    out = tmp_path / "out"
    with caplog.at_level(logging.WARNING):
        result = run_batch(manifest(home, rows), out, SETTINGS, how)
    assert "slides without annotations" in caplog.text
    assert result.run["counts"]["done"] == 1
    assert result.run["counts"]["failed"] == 4
    errors = " ".join(r["error"] for r in rows_of(out / "failures.csv"))
    for word in ("not valid annotations", "tumour by its class", "TMA map"):
        assert word in errors
    (row,) = [r for r in rows_of(out / "slides.csv") if r["status"] == "complete"]
    assert (row["timepoint"], row["scanner"], row["specimen"]) == ("time point 1", "scanner 1", "")
    counts = next((out / "cases").rglob("ish.json"))
    assert {a["area_id"] for a in json.loads(counts.read_text())["areas"]} == {"area 1", "area 2"}
    assert marked(out) == []
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "run.json").write_text("{}")
    with pytest.raises(OutputError, match="with names"):
        run_batch(home / "manifest.csv", tmp_path / "named", SETTINGS, BatchOptions(
            pseudonymise=True, overwrite=True, annotations=drawn))  # fmt: skip


def test_a_rule_set_by_its_path_is_refused(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("extends: asco_cap_2018\nname: own\n")
    with pytest.raises(UsageError, match="--pseudonymise writes no path"):
        score_slide(tmp_path / "a.svs", tmp_path / "o", SETTINGS.replace(
            {"score.guideline": str(rules)}), options=RunOptions(pseudonymise=True))  # fmt: skip


def entry(row: int, case: str, time: str = "", **more: Any) -> Entry:
    return Entry(row, Path(f"/nowhere/s{row}.svs"), f"s{row}", case, f"s{row}", timepoint=time,
                 **more)  # fmt: skip


def test_what_is_no_free_text_stays() -> None:
    given = [
        entry(2, "a", "2020-01-05", specimen="Biopsy", reader_score="2+"),
        entry(3, "a", "cycle 2", reader_score="HER2-low", extra={"batch": "7", "scanner": "X"}),
        entry(4, "a", "follow-up", reader_score="0/null", extra={"batch": "8", "scanner": "Y"}),
        entry(5, "b", "bei Frau X 10"), entry(6, "b", "bei Frau X 9"), entry(7, "b", "2"),
        entry(8, "b", "", specimen="liver of X", reader_score="ask X", extra={"scanner": "X"}),
    ]  # fmt: skip
    out = hide_names(given)
    assert [e.timepoint for e in out] == ["2020-01-05", "cycle 2", "follow-up", "time point 2",
                                          "time point 1", "2", ""]  # fmt: skip
    assert [e.reader_score for e in out] == ["2+", "HER2-low", "0/null", "", "", "", ""]
    assert [e.specimen for e in out][0::6] == ["Biopsy", ""]
    assert out[1].extra == {"batch": "7", "scanner": "scanner 1"}
    assert out[2].extra == {"batch": "8", "scanner": "scanner 2"}
    assert out[6].extra == {"scanner": "scanner 1"}


def test_errors_without_names() -> None:
    slide = Path("/data/Jane Doe 1950/in/DOE.ome.tif")
    paths = (slide, Path("/data/Jane Doe 1950/a_BECK/x.geojson"), None)
    text = (
        "/data/Jane Doe 1950/in/DOE.ome.tif and x.geojson: the slide's class 'Dr Who' of \"Mr X\" "
        "in /data/Jane Doe 1950/a_BECK differs at 0.25 µm/px from /other/place/y.tif (1/8). Mend"
    )
    told = clean(text, "slide-1", paths, Path("/out/of/BECK"))
    assert told == (
        "slide-1 and slide-1: the slide's class '...' of '...' in  differs at 0.25 µm/px from a "
        "file (1/8). Mend".replace("in  differs", "in differs")
    )
    assert clean("/out/of/BECK/slides/x is held", "s", (), Path("/out/of/BECK")) == (
        "OUT/slides/x is held")  # fmt: skip
