"""Control areas on the slide: drawn, found, applied to that slide alone, never counted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from her2path.core.settings import Settings
from her2path.io.annotations import Stated, control_of
from her2path.io.store import RunStore
from her2path.phantom import PhantomSpec, make_files
from her2path.runs.case import score_slide
from her2path.runs.case.rescore import rescore

SMALL = Settings().replace({"score.min_cells": 20, "regions.size_um": 150.0,
                            "regions.min_cells": 10, "heterogeneity.permutations": 19,
                            "heterogeneity.interval_draws": 20, "score.bootstrap_draws": 40,
                            "heterogeneity.biopsy_draws": 10, "stream.workers": 1,
                            "stream.block_px": 1024})  # fmt: skip
WORDS = ("0", "1+", "2+", "3+", "70000 receptors", "160000 receptors", "400000 receptors")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    spec = PhantomSpec(seed=3, width_um=220, height_um=370, margin_um=8, strength=1.8,
                       mixture={"moderate_complete": 0.9, "none": 0.1}, controls=WORDS,
                       control_um=170.0, tumour_share=0.8)  # fmt: skip
    return make_files(spec, tmp_path_factory.mktemp("drawing"))


@pytest.fixture(scope="module")
def scored(made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("scored") / "a"
    return score_slide(made["slide"], out, SMALL, made["annotations"])


def test_the_slide_calibrates_itself(scored: Any) -> None:
    result = scored.result
    assert result.stain.calibration == "control"
    assert result.calibration.source == "slide"
    assert {c.level or f"{c.receptors:.0f}" for c in result.calibration.controls} == {
        "0", "1+", "2+", "3+", "70000", "160000", "400000"
    }  # fmt: skip
    # strained 1.8 times as dark: the shipped limits would call moderate cells intense
    assert result.calibration.cutoffs[2] > SMALL.membrane.cutoffs[2]
    assert result.score.ihc == "2+"
    assert not {"CONTROLS_NOT_USED", "UNCALIBRATED_CUTOFFS", "ANNOTATIONS_NOT_SELECTING"} & {
        f.code for f in result.qc.flags
    }
    # the run's own settings are what was asked for
    assert RunStore(scored.out).settings() == SMALL


def test_control_cells_are_measured_and_never_counted(scored: Any, made: dict[str, Path]) -> None:
    truth = pq.read_table(made["truth"])
    cells = scored.cells()
    edge = 220.0
    right = cells["x_um"].to_numpy() > edge
    assert right.sum() > 200
    assert set(cells.filter(right)["cell_type"].to_pylist()) == {"other"}
    assert (cells.filter(right)["membrane_od"].to_numpy() > 0).mean() > 0.4
    assert scored.result.counts.tumour < (np.array(truth["area"].to_pylist()) == "main").sum()


def test_receptors_follow_the_law_of_the_drawing(scored: Any, made: dict[str, Path]) -> None:
    truth = pq.read_table(made["truth"])
    od, n = truth["od_crest"].to_numpy(), truth["receptors"].to_numpy()
    assert n == pytest.approx(1e6 * od / 1.8)
    found = scored.result.receptors
    assert found.range == pytest.approx((70_000, 400_000))
    mine = np.array(truth["area"].to_pylist()) == "main"
    stained = np.median(n[mine & (n > 0)])
    assert found.median == pytest.approx(stained, rel=0.3)
    assert found.median is not None
    assert (found.low or 0) < found.median < (found.high or 1e9)
    column = scored.cells()["receptors"].to_numpy(zero_copy_only=False)
    known = column[np.isfinite(column)]
    assert known.dtype == np.float32
    assert 70_000 * 0.999 <= known.min() <= known.max() <= 400_000 * 1.001
    medians = [v for v in scored.regions()["receptors_median"].to_pylist() if v is not None]
    assert medians
    assert min(medians) > 70_000


def test_rescoring_finds_the_controls_again_without_the_slide(scored: Any, tmp_path: Path) -> None:
    out = Path(shutil.copytree(scored.out, tmp_path / "copy"))
    again = rescore(out).result
    assert again.calibration == scored.result.calibration
    assert again.receptors == scored.result.receptors
    assert again.score == scored.result.score
    assert again.fractions == scored.result.fractions
    assert RunStore(out).cells() == scored.cells()
    # another batch's cut-offs do not touch a slide with controls of its own
    other = rescore(out, changes=["membrane.cutoffs=[0.3, 0.5, 0.9]"]).result
    assert other.calibration == scored.result.calibration


def test_controls_that_cannot_calibrate_are_said_and_left(
    made: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "two.geojson"
    text = made["annotations"].read_text()
    path.write_text(text.replace("control 1+", "control 3+").replace("receptors", "beads"))
    result = score_slide(made["slide"], tmp_path / "out", SMALL, path).result
    (told,) = (f.message for f in result.qc.flags if f.code == "CONTROLS_NOT_USED")
    assert "too few controls: none of 1+" in told
    assert result.calibration is not None
    assert result.calibration.source == "settings"
    assert result.calibration.cutoffs == SMALL.membrane.cutoffs


@pytest.mark.parametrize(
    ("word", "stated"),
    [
        ("control 0", Stated(level=0)),
        ("Control_3+", Stated(level=3)),
        ("control 64386 receptors", Stated(receptors=64_386.0)),
        ("control 64,386 receptors", Stated(receptors=64_386.0)),
        ("control 1.5e5 receptors", Stated(receptors=150_000.0)),
        ("control 500 000 receptors", Stated(receptors=500_000.0)),
        ("control", None),
        ("control tissue", None),
        ("control 4+", None),
        ("Tumor", None),
    ],
)
def test_what_a_control_states(word: str, stated: Stated | None) -> None:
    assert control_of(word) == stated


def test_a_control_of_no_receptors_is_none() -> None:
    with pytest.raises(ValueError, match="above 0"):
        control_of("control 0 receptors")
