"""Results as a notebook sees them: opened, shown, as tables and figures; errors in its words."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path

import pytest
from fake_run import make_run
from PIL import Image

import her2path as h2
from her2path import opened
from her2path.core.errors import MppMissing, OutputError, SettingsError
from her2path.io.store import RunStore
from her2path.outputs.report.context import SlideContext

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("opened") / "batch"
    trees = {k: make_run(out / "slides" / k, k).result().as_dict() for k in ("low", "clustered")}
    (out / "run.json").write_text("{}")
    (out / "slides.csv").write_text("slide_id,case_id,ihc\n0012,0012,3+\n")
    case = out / "cases" / "c1"
    case.mkdir(parents=True)
    slides = [{"slide_id": k, "folder": k, "ihc": "1+", "status": "complete"} for k in trees]
    (case / "case.json").write_text(json.dumps(
        trees["clustered"] | {"case_id": "<c1>", "slides": slides}))  # fmt: skip
    return out


def test_a_slide_is_reopened_with_its_figures(folder: Path) -> None:
    result = h2.open(folder / "slides" / "clustered")
    stored = RunStore(folder / "slides" / "clustered").result()
    assert result.score == stored.score
    assert result.h_score == stored.h_score
    assert not result.fresh
    names = dir(result)
    assert {"score", "heterogeneity", "qc", "cells", "regions", "to_pandas", "plot"} <= set(names)
    assert not [n for n in names if n.startswith("_")]
    frame = result.to_pandas(["cell_id", "pattern"])
    assert list(frame.columns) == ["cell_id", "pattern"]
    assert len(frame) == result.cells().num_rows
    html = result._repr_html_()
    assert "3+ by asco_cap_2018" in html
    assert f"{result.counts.tumour:,}" in html


@pytest.mark.parametrize("name", ["overview", "patterns", "regions", "strength", "bystander"])
def test_figures_are_drawn_and_show_themselves(folder: Path, name: str) -> None:
    plot = h2.open(folder / "slides" / "clustered").plot
    assert name in dir(plot)
    figure = getattr(plot, name)()
    assert figure.axes
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_figure_that_cannot_be_drawn_says_why(folder: Path, tmp_path: Path) -> None:
    plot = h2.open(folder / "slides" / "clustered").plot
    with pytest.raises(OutputError, match=r"no map 'colour'.*Valid: score"):
        plot.regions("colour")
    empty = make_run(tmp_path / "ne", "not_evaluable")
    with pytest.raises(h2.Her2PathError, match="not evaluable"):
        h2.open(empty.out).plot.bystander()
    assert "not evaluable" in h2.open(empty.out)._repr_html_()


def test_a_batch_and_a_case_are_reopened(folder: Path) -> None:
    batch = h2.open(folder)
    assert [s.out.name for s in batch.slides()] == ["clustered", "low"]
    assert batch.to_pandas()["slide_id"].tolist() == ["0012"]
    assert "2 slides" in batch._repr_html_()
    with pytest.raises(OutputError, match=r"cases\.csv is missing"):
        batch.to_pandas(cases=True)
    case = batch.cases()[0]
    assert isinstance(case, opened.Case)
    assert case.case_id == "<c1>"
    assert "&lt;c1&gt;" in case._repr_html_()
    assert {"score", "slides", "to_pandas"} <= set(dir(case))
    assert [s.out.name for s in case.opened()] == ["low", "clustered"]
    assert len(case.to_pandas()) == 2
    with pytest.raises(AttributeError):
        _ = case.no_such_thing


def test_what_is_no_result_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Give the folder of a slide, a case or a batch"):
        h2.open(tmp_path)


def test_errors_speak_of_arguments(tmp_path: Path) -> None:
    Image.new("RGB", (300, 300), "white").save(tmp_path / "a.png")
    with pytest.raises(MppMissing) as caught:
        h2.score_slide(tmp_path / "a.png", tmp_path / "out")
    assert "mpp=" in str(caught.value)
    assert "--mpp" not in str(caught.value)
    with pytest.raises(h2.Her2PathError, match="asco_cap_2018"):
        h2.score_slide(tmp_path / "a.png", tmp_path / "out", mpp=0.25, guideline="asco_2018")
    with pytest.raises(SettingsError, match=r"setting slide\.mpp"):
        h2.score_slide(tmp_path / "a.png", tmp_path / "out", mpp=50)
    assert {"mpp", "guideline", "annotations"} <= set(inspect.signature(h2.score_slide).parameters)


def test_invalid_settings_are_one_line() -> None:
    with pytest.raises(SettingsError) as caught:
        h2.Settings(score={"min_cells": "many"})
    assert str(caught.value).count("\n") == 0
    assert "score.min_cells" in str(caught.value)
    with pytest.raises(SettingsError, match="there is no setting 'scores'"):
        h2.Settings(scores={})


def test_the_notebook_goes_from_slide_to_figure_in_ten_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
    assert len(cells) == 10
    assert all(not c["outputs"] for c in cells)
    monkeypatch.chdir(tmp_path)
    space: dict = {}
    for number, cell in enumerate(cells, 1):
        exec(compile("".join(cell["source"]), f"<cell {number}>", "exec"), space)
    assert space["result"].status == "complete"
    assert os.listdir(tmp_path / "figures")  # noqa: PTH208 - as the reader looks
    assert space["again"].score == space["result"].score


def test_the_overview_of_a_slide_has_both_pictures(folder: Path) -> None:
    figure = h2.open(folder / "slides" / "clustered").plot.overview()
    assert [ax.get_title() for ax in figure.axes] == ["as it is", "cells by score"]
    context = SlideContext(RunStore(folder / "slides" / "clustered"))
    assert figure.axes[1].images[1].get_array().shape[:2] == context.thumbnail.shape[:2]
