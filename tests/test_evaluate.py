"""What the evaluations compute: scoring rules, comparisons of results, drawn point patterns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial import cKDTree
from sklearn.metrics import log_loss

from her2path.core.schema import SCORES
from scripts.evaluate import calibration, heterogeneity, probability, same_results
from scripts.evaluate.sensitivity import soften
from scripts.phantoms import tumours
from scripts.phantoms.drawn import Drawn

SAID = ((0.7, 0.2, 0.05, 0.05), (0.1, 0.6, 0.3, 0.0), (0.0, 0.02, 0.28, 0.7), (0.5, 0.5, 0.0, 0.0))
RIGHT = ("0", "2+", "3+", "3+")


def test_scoring_rules_are_the_textbooks(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"p": dict(zip(SCORES, p, strict=True)), "score": s}
            for p, s in zip(SAID, RIGHT, strict=True)]  # fmt: skip
    found = probability.report(rows[:3], "three")
    p, right = np.array(SAID[:3]), [SCORES.index(s) for s in RIGHT[:3]]
    assert found["log_loss"] == pytest.approx(log_loss(right, p, labels=range(4)))
    assert found["brier"] == pytest.approx(((p - np.eye(4)[right]) ** 2).sum(axis=1).mean())
    assert found["right"] == pytest.approx(2 / 3)
    # a right score that was held impossible costs no more than one in a thousand
    every = probability.report(rows, "four")
    assert every["log_loss"] == pytest.approx((3 * found["log_loss"] - np.log(1e-3)) / 4)
    assert (every["below_5"], every["below_10"]) == (1, 1)
    assert "three: n 3" in capsys.readouterr().out


def test_differences_of_results_are_named_and_runs_are_left_out() -> None:
    before = {"score": {"ihc": "2+", "p": [0.1, float("nan")]}, "seconds": 3, "created_at": "a"}
    assert not list(same_results.differing(before, before | {"seconds": 9, "more": 1}))
    changed = {"score": {"ihc": "3+", "p": [0.1, float("nan")]}}
    assert list(same_results.differing(before, changed)) == ["/score/ihc: 2+ -> 3+"]
    assert list(same_results.differing(before, {})) == ["/score is gone"]
    assert list(same_results.differing([1], [1, 2])) == [": [1] -> [1, 2]"]


def test_a_reports_numbers_are_what_a_reader_sees(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    run = '<section class="a" id="provenance">77</section><p>2026-01-02 -3</p>'
    page.write_text(f'<p style="width:7px">12.5 % of 40</p><script>99</script>{run}')
    assert same_results.report_numbers(page) == ["12.5", "40", "-3"]


def _out(folder: Path, ihc: str, x: float) -> Path:
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({"score": {"ihc": ihc}}))
    pq.write_table(pa.table({"x_um": [x]}), folder / "cells.parquet")
    return folder


def test_folders_are_compared_slide_by_slide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    for name, x in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        _out(before / name, "2+", x)
    _out(after / "a", "2+", 1.0)
    _out(after / "b", "2+", np.nextafter(2.0, 3.0))
    monkeypatch.setattr("sys.argv", ["same_results", str(before), str(after)])
    assert same_results.main() == 1
    told = capsys.readouterr().out.splitlines()
    assert told == ["a: the same", "b: cells.parquet differs", "c: is missing", "1 of 3 the same"]
    monkeypatch.setattr("sys.argv", ["same_results", str(before), str(before)])
    assert same_results.main() == 0


@pytest.mark.parametrize("layout", tumours.LAYOUTS)
def test_point_patterns_are_of_their_layout(layout: str) -> None:
    for seed in range(3):
        one, again = tumours.draw(layout, seed), tumours.draw(layout, seed)
        np.testing.assert_array_equal(one.positive, again.positive)
        assert one.x.size == one.y.size == one.positive.size >= tumours.FEWEST
        at = np.column_stack([one.x, one.y])
        assert cKDTree(at).query(at, 2)[0][:, 1].min() >= one.facts["core"] - 0.06
        share = one.positive.mean()
        assert one.facts["share"] == pytest.approx(share, abs=1e-3)
        low, high = {"homogeneous": (0.0, 1.0), "clustered": (0.03, 0.9), "mosaic": (0.08, 0.95),
                     "scattered": (0.01, 0.11)}[layout]  # fmt: skip
        assert low <= share <= high


def test_the_types_of_point_patterns_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    rows = heterogeneity.patterns(range(1000, 1001), 0.01)
    assert [r["layout"] for r in rows] == list(tumours.LAYOUTS)
    assert [r["typed"] for r in rows] == list(tumours.LAYOUTS)
    heterogeneity.say_types([*rows, {"layout": "homogeneous", "typed": "mosaic"}], "typed")
    told = capsys.readouterr().out
    assert "right: 4 of 5" in told
    assert "homogeneous called clustered or mosaic: 1 of 2" in told


def test_regions_at_a_limit_are_counted() -> None:
    table = pa.table({"positive_cells": [3, 50, 95, 1, 0], "tumour_cells": [60, 100, 100, 20, 400]})
    assert heterogeneity.near_limit(table) == 2  # 3 of 60 and 50 of 100; too few; far from both


def test_a_softened_drawing_keeps_its_mean_and_loses_its_edges() -> None:
    rgb = np.full((80, 80, 3), 230, np.uint8)
    rgb[:, 40:] = 120
    truth = pa.table({"x_um": [1.0], "y_um": [1.0], "cell_type": ["tumour"], "pattern": ["none"],
                      "has_nucleus": [True]})  # fmt: skip
    drawn = Drawn(rgb, 0.25, truth)
    sharp, soft = (soften(drawn, um, 92, 0.5, 1).astype(float) for um in (0.0, 0.8))
    assert abs(sharp.mean() - soft.mean()) < 1.0
    assert np.abs(np.diff(soft, axis=1)).max() < 0.5 * np.abs(np.diff(sharp, axis=1)).max()


def test_simulated_laboratories_read_by_their_own_cutoffs() -> None:
    rng = np.random.default_rng(5)
    reads = calibration.laboratory(rng, calibration.START, cases=12, readers=2, noise=0.0)
    assert reads.counts.shape == (12, 4)
    # readers without noise agree with each other
    assert set(reads.counts.max(axis=1)) == {2.0}
    assert (reads.counts.sum(axis=1) == 2).all()
