"""The same cells again: rule sets, cut-offs, corrections; and annotations on the way in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from her2path import api
from her2path.core.errors import AnnotationError, NotEvaluable, OutputError, SettingsError
from her2path.core.settings import Settings
from her2path.io.corrections import Correction, apply_corrections, read_corrections
from her2path.phantom import PhantomSpec, make_phantom, write_slide
from her2path.runs.case import RunOptions
from her2path.runs.case.rescore import rescore, what_if
from her2path.scoring.guidelines import names

SMALL = Settings().replace(
    {
        "score.min_cells": 20,
        "regions.size_um": 120.0,
        "heterogeneity.permutations": 99,
        "score.bootstrap_draws": 50,
        "heterogeneity.biopsy_draws": 20,
        "stream.workers": 2,
    }
)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = PhantomSpec(
        seed=9,
        width_um=300.0,
        height_um=260.0,
        mpp=0.25,
        layout="homogeneous",
        mixture={"intense_complete": 0.5, "moderate_complete": 0.5},
    )
    path = tmp_path_factory.mktemp("slide") / "s.svs"
    write_slide(make_phantom(spec), path)
    return path


@pytest.fixture(scope="module")
def scored(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "a"
    api.score_slide(slide, out, SMALL)
    return out


@pytest.fixture
def out(scored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scored, tmp_path / "copy"))


def figures(out: Path) -> dict[str, Any]:
    tree = json.loads((out / "result.json").read_text())
    tree.pop("provenance")
    return tree


def test_rescoring_with_nothing_changed_changes_no_figure(out: Path) -> None:
    before = figures(out)
    rescore(out)
    assert figures(out) == before


def test_scored_again_it_is_stale_for_other_settings_only(slide: Path, out: Path) -> None:
    rescore(out, guideline="gastric_resection")
    with pytest.raises(OutputError, match="a complete result with other settings"):
        api.score_slide(slide, out, SMALL)
    asked = SMALL.replace({"score.guideline": "gastric_resection"})
    assert not api.score_slide(slide, out, asked).fresh
    again = api.score_slide(slide, out, SMALL, options=RunOptions(redo_stale=True))
    assert again.fresh
    assert again.score.guideline == SMALL.score.guideline


def test_what_a_reader_corrected_is_never_replaced_unasked(
    slide: Path, out: Path, tmp_path: Path
) -> None:
    first = rescore(out).cells(["cell_id"])["cell_id"][0].as_py()
    made = [Correction(first, "none", None, "AB", "2026-01-02T03:04:05+00:00")]
    file = corrections_file(tmp_path / "c.geojson", made)
    rescore(out, corrections=file)
    before = figures(out)
    assert before["corrections_sha256"]
    assert not api.score_slide(slide, out, SMALL).fresh
    other = SMALL.replace({"score.guideline": "gastric_resection"})
    for how in (RunOptions(), RunOptions(redo_stale=True)):
        with pytest.raises(OutputError, match="a reader has corrected"):
            api.score_slide(slide, out, other, options=how)
    assert figures(out) == before
    assert api.score_slide(slide, out, other, options=RunOptions(overwrite=True)).fresh
    assert figures(out)["corrections_sha256"] is None


def test_another_guideline(out: Path) -> None:
    result = rescore(out, guideline="gastric_resection", reports=api.write_reports)
    assert result.score.guideline == "gastric_resection"
    assert "gastric" in (out / "settings.yaml").read_text()
    assert "gastric" in (out / "report.html").read_text()


def test_other_cutoffs_move_cells(out: Path) -> None:
    result = rescore(out, changes=["membrane.cutoffs=[5.0, 6.0, 7.0]"])
    assert result.score.ihc == "0"
    assert result.fractions["none"] == 1.0
    assert result.h_score == 0.0


@pytest.mark.parametrize("change", ["stain.method=fixed", "slide.mpp=0.3", "nuclei.sensitivity=2"])
def test_what_needs_pixels_is_refused(out: Path, change: str) -> None:
    before = figures(out)
    with pytest.raises(SettingsError, match="without the slide"):
        rescore(out, changes=[change])
    assert figures(out) == before


def test_too_few_cells_leave_the_result_alone(out: Path) -> None:
    before = figures(out)
    with pytest.raises(NotEvaluable):
        rescore(out, changes=["score.min_cells=100000"])
    assert figures(out) == before


def test_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        rescore(tmp_path / "nothing")


def test_what_if_has_every_rule_set(out: Path) -> None:
    rows = what_if(out)
    assert {r["guideline"] for r in rows} == set(names())
    assert all(r["ihc"] in ("0", "1+", "2+", "3+") for r in rows)


def corrections_file(path: Path, made: list[Correction]) -> Path:
    path.write_text(
        json.dumps({"type": "FeatureCollection", "features": [c.feature(1.0, 2.0) for c in made]})
    )
    return path


def test_corrections_keep_both_values(out: Path, tmp_path: Path) -> None:
    table = rescore(out).cells().sort_by("cell_id")
    first, second = table["cell_id"].to_pylist()[:2]
    machine = table["pattern"].to_pylist()[0]
    when = "2026-01-02T03:04:05+00:00"
    made = [
        Correction(first, "faint_complete", None, "AB", when),
        Correction(first, "none", None, "AB", when),
        Correction(second, None, "other", "AB", when),
    ]
    file = corrections_file(tmp_path / "c.geojson", made)
    assert read_corrections(file) == made
    corrected = rescore(out, corrections=file).cells().sort_by("cell_id")
    rows = corrected.slice(0, 2).to_pylist()
    assert (rows[0]["pattern"], rows[0]["machine_pattern"]) == ("none", machine)
    assert (rows[0]["reader"], rows[0]["reader_time"], rows[0]["score"]) == ("AB", when, 0)
    assert (rows[1]["cell_type"], rows[1]["reader"]) == ("other", "AB")
    again = rescore(out).cells().sort_by("cell_id")
    assert again["pattern"].to_pylist()[0] == machine
    assert "reader" not in again.column_names


def test_corrections_of_another_result_are_refused(out: Path) -> None:
    table = rescore(out).cells()
    with pytest.raises(AnnotationError, match="1 cells"):
        apply_corrections(table, [Correction(-5, "none", None, "AB", "2026-01-01T00:00:00")])


@pytest.mark.parametrize(
    "properties",
    [
        {"cell_id": "x", "reader": "A", "time": "2026-01-01"},
        {"cell_id": "1", "reader_pattern": "strong", "reader": "A", "time": "2026-01-01"},
        {"cell_id": "1", "reader": "A", "time": "yesterday"},
        {"cell_id": "1"},
    ],
)
def test_a_wrong_correction_names_its_number(tmp_path: Path, properties: dict[str, Any]) -> None:
    file = tmp_path / "c.geojson"
    feature = {"type": "Feature", "properties": {"correction": "cell", **properties}}
    file.write_text(json.dumps({"features": [{"properties": {}}, feature]}))
    with pytest.raises(AnnotationError, match="correction 2"):
        read_corrections(file)


def polygon(x0: float, y0: float, x1: float, y1: float, name: str) -> dict[str, Any]:
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": name}},
    }


def test_annotations_say_where_tumour_is(slide: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.geojson"
    file.write_text(
        json.dumps(
            {
                "type": "FeatureCollection",
                "features": [polygon(0, 0, 700, 1040, "Tumor"), polygon(0, 0, 300, 1040, "DCIS")],
            }
        )
    )
    result = api.score_slide(slide, tmp_path / "o", SMALL, annotations=file, report=False)
    assert result.tumour_selection == "annotation"
    assert "IN_SITU_NOT_EXCLUDED" not in {f.code for f in result.qc.flags}
    cells = result.cells()
    x = cells["x_px"].to_numpy()[np.asarray(cells["cell_type"].to_pylist()) == "tumour"]
    assert x.min() >= 300
    assert x.max() <= 700


def test_annotation_regions_score_each_area(slide: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.geojson"
    file.write_text(
        json.dumps(
            {
                "type": "FeatureCollection",
                "features": [
                    polygon(0, 0, 600, 1040, "Tumor"),
                    polygon(600, 0, 1200, 1040, "Tumor"),
                ],
            }
        )
    )
    settings = SMALL.replace({"regions.kind": "annotation", "regions.min_cells": 5})
    result = api.score_slide(slide, tmp_path / "o", settings, annotations=file, report=False)
    table = result.regions()
    assert table.num_rows == 2
    assert sum(table["tumour_cells"].to_pylist()) == result.counts.tumour


def test_annotation_method_needs_annotations(slide: Path, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="annotations="):
        api.score_slide(slide, tmp_path / "o", SMALL.replace({"tumour.method": "annotation"}))


def test_a_batch_is_scored_again_whole(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from her2path.cli import main

    batch = tmp_path / "batch"
    (batch / "slides").mkdir(parents=True)
    out.rename(batch / "slides" / "a")
    with pytest.raises(SystemExit) as left:
        main(["rescore", str(batch), "--guideline", "gastric_resection"])
    assert not left.value.code
    assert "1 slides scored again, 0 corrected cells and 0 areas applied" in capsys.readouterr().out
    assert figures(batch / "slides" / "a")["score"]["guideline"] == "gastric_resection"
    case = json.loads((batch / "cases" / "a" / "case.json").read_text())
    assert case["score"]["guideline"] == "gastric_resection"
    assert "gastric_resection" in (batch / "slides.csv").read_text()
    with pytest.raises(SystemExit) as left:
        main(["rescore", str(batch), "--corrections", "c.geojson"])
    assert left.value.code == 2
    assert "names the cells of one slide" in capsys.readouterr().err


def test_rescore_says_how_many_corrections_it_applied(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from her2path.cli import main

    ids = sorted(rescore(out).cells()["cell_id"].to_pylist())
    made = [Correction(i, "none", None, "AB", "2026-01-02T03:04:05+00:00") for i in ids[:2]]
    file = corrections_file(tmp_path / "c.geojson", made)
    with pytest.raises(SystemExit):
        main(["rescore", str(out), "--corrections", str(file)])
    assert "2 corrected cells and 0 areas applied." in capsys.readouterr().err
