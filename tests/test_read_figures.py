"""Figures of the program on cells read by eye: matching, agreement, what counts where."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from scripts.evaluate import cutoffs, reads
from scripts.evaluate.matching import away, f1, pair
from scripts.evaluate.read_figures import (
    POINT,
    agreement,
    figures,
    judge_field,
    pool,
    read_points,
    share,
)

FIELD = {"field": "F1", "image": "1_abcd", "look": "as_is", "mpp": "0.5", "side": "120",
         "x0": "100", "y0": "200"}  # fmt: skip


def test_pairs_are_one_to_one_nearest_first() -> None:
    found = np.array([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]])
    truth = np.array([[0.9, 0.0], [-3.0, 0.0]])
    assert pair(found, truth, 4.0).tolist() == [1, 0, -1]
    assert pair(found, np.zeros((0, 2))).tolist() == [-1, -1, -1]
    assert away(found, np.zeros((0, 2))).tolist() == [np.inf] * 3


def test_cells_that_cannot_be_found_neither_help_nor_hurt() -> None:
    truth = np.array([[0.0, 0.0], [50.0, 0.0], [100.0, 0.0]])
    tumour, findable = np.array([True, True, False]), np.array([True, False, False])
    assert f1(truth[:2], truth, tumour, findable) == (1.0, 1.0, 1.0)
    # a stromal cell called tumour is a false one; a missed tumour cell is a miss
    assert f1(truth[2:], truth, tumour, findable) == (0.0, 0.0, 0.0)


def test_agreement_is_cohens_quadratic_kappa() -> None:
    rng = np.random.default_rng(3)
    a = rng.integers(0, 4, 300)
    b = np.clip(a + rng.integers(-1, 2, 300), 0, 3)
    found = agreement(a, b)
    assert found["kappa"] == pytest.approx(cohen_kappa_score(a, b, weights="quadratic"))
    assert found["exact"] == pytest.approx((a == b).mean())
    assert found["n"] == 300


def test_agreement_where_there_is_nothing_to_agree_on() -> None:
    none = np.array([-1, 2]), np.array([1, -1])
    assert agreement(*none) == {"n": 0, "exact": None, "kappa": None, "stained": None}
    alike = agreement(np.array([2, 2]), np.array([2, 2]))
    assert alike["kappa"] is None
    assert alike["exact"] == 1.0
    assert share(np.array([])) == {"share": None, "n": 0}


def _points(*rows: tuple[float, float, tuple[str, str], tuple[int, int], bool]) -> np.ndarray:
    points = np.zeros(len(rows), POINT)
    for point, (x, y, kind, grade, second) in zip(points, rows, strict=True):
        point["at"], point["kind"], point["grade"] = (100 + x, 200 + y), kind, grade
        point["letter"], point["whole"], point["second"] = ("A", "B"), (-1, -1), second
    return points


TUMOUR, NOTHING = ("tumour", "tumour"), ("nothing", "nothing")


def _finds(*rows: tuple[float, float, str, int]) -> dict[str, np.ndarray]:
    """Return finds at places of the field, pixels from its corner."""
    return {
        "at": np.array([(100 + x, 200 + y) for x, y, _, _ in rows], float).reshape(-1, 2),
        "cell_type": np.array([k for _, _, k, _ in rows]),
        "intensity": np.array([i for _, _, _, i in rows]),
        "completeness": np.zeros(len(rows)),
        "uncertain": np.zeros(len(rows), bool),
    }


def test_finds_are_matched_with_nuclei_before_second_dots() -> None:
    points = _points((20, 20, TUMOUR, (1, 2), False), (23, 20, NOTHING, (-1, -1), True),
                     (80, 80, NOTHING, (-1, -1), False))  # fmt: skip
    # the first find lies nearer to the second dot, yet it is the nucleus' find
    found = _finds((22, 20, "tumour", 2), (80, 80, "tumour", 1), (60, 20, "other", 0))
    judged, counts = judge_field(FIELD, points, found, 3.0)
    assert judged["found"].tolist() == [True, False, True]
    assert judged["intensity"].tolist() == [2, 0, 1]
    assert not points["found"].any()  # what was read stays as it was
    assert counts == Counter(finds=3, unread=1, beside=0)


def test_a_second_find_of_a_nucleus_is_a_double() -> None:
    points = _points((20, 20, TUMOUR, (1, 1), False))
    _, counts = judge_field(
        FIELD, points, _finds((20, 20, "tumour", 1), (24, 20, "tumour", 1)), 3.0
    )
    assert counts["beside"] == 1
    _, counts = judge_field(
        FIELD, points, _finds((20, 20, "tumour", 1), (27, 20, "tumour", 1)), 3.0
    )
    assert counts["beside"] == 0


def test_finds_outside_a_field_are_not_counted_but_may_match_its_rim() -> None:
    points = _points((1, 1, TUMOUR, (0, 0), False))
    judged, counts = judge_field(FIELD, points, _finds((-1, 1, "tumour", 0)), 3.0)
    assert judged["found"].all()
    assert counts["finds"] == 0


def test_figures_count_what_their_words_say() -> None:
    points = _points((10, 10, TUMOUR, (0, 0), False), (30, 10, TUMOUR, (1, 1), False),
                     (50, 10, TUMOUR, (1, 1), False), (70, 10, NOTHING, (-1, -1), False),
                     (90, 10, ("other", "other"), (-1, -1), False))  # fmt: skip
    finds = _finds((10, 10, "tumour", 0), (30, 10, "tumour", 1), (70, 10, "tumour", 0),
                   (90, 10, "other", 0))  # fmt: skip
    one = judge_field(FIELD, points, finds, 3.0)
    one[1]["missed_by_both"] = 3
    told = figures(*pool([one]))
    assert told["cells"]["called_tumour"] == {"share": pytest.approx(2 / 3), "n": 3}
    assert told["cells"]["not_found"] == {"share": pytest.approx(1 / 3), "n": 3}
    assert told["cells"]["called_and_not"] == {"share": pytest.approx(1 / 3), "n": 3}
    assert told["cells"]["no_nucleus"] == {"share": pytest.approx(1 / 4), "n": 4}
    assert told["membrane"]["weak"] == {
        "share": 1.0, "n": 1, "of_all": {"share": 0.5, "n": 2},
    }  # fmt: skip
    assert told["membrane"]["none"]["share"] == 1.0
    assert told["readers"]["missed"] == 1.5
    both = figures(*pool([one, one]))
    assert both["cells"]["called_tumour"]["n"] == 6
    assert both["readers"]["missed"] == 3.0


def test_a_point_needs_two_readers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = "field,n,x_px,y_px,reader,kind,membrane,complete\n"
    rows = ("F1,1,5,6,A,tumour,weak,no\nF1,1,5,6,B,tumour,strong,yes\n"
            "F1,2,9,9,A,nothing,,double\nF1,2,9,9,B,nothing,,\n"
            "F2,1,1,1,A,tumour,weak,no\n")  # fmt: skip
    (tmp_path / "reads.csv").write_text(head + rows)
    points = read_points(tmp_path)
    assert list(points) == ["F1"]
    assert points["F1"]["grade"].tolist() == [[1, 3], [-1, -1]]
    assert points["F1"]["whole"].tolist() == [[0, 1], [-1, -1]]
    assert points["F1"]["second"].tolist() == [False, True]
    assert "F2" in capsys.readouterr().err


def test_the_reads_that_ship_can_be_judged() -> None:
    points = read_points(reads.READS)
    assert len(points) > 100
    every = np.concatenate(list(points.values()))
    assert set(np.unique(every["grade"])) <= {-1, 0, 1, 2, 3}
    assert (every["kind"] == "tumour").all(axis=1).sum() > 1500


def test_results_that_are_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["reads", str(tmp_path), "--images", "2_0123"])
    with pytest.raises(SystemExit) as stop:
        reads.main()
    assert stop.value.code == 2
    assert "Make them with --score" in capsys.readouterr().err


def test_limits_of_intensity_are_judged_by_both_readers() -> None:
    # grades of both readers, strength, whether stained
    cells = np.array([[0, 0, 0.5, 0], [1, 1, 0.03, 1], [2, 2, 0.1, 1], [3, 3, 0.5, 1]], float)
    assert cutoffs.kappa(cells, (0.01, 0.05, 0.3)) == pytest.approx(1.0)
    assert cutoffs.kappa(cells, (0.01, 0.2, 0.6)) < 0.9
