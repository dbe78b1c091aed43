"""Over- and under-staining against the batch's controls: one slide, its run, and the batch."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from her2path.core.results import ControlFacts
from her2path.core.settings import Settings, Source
from her2path.io.store import BatchStore
from her2path.outputs.report.index import index_values
from her2path.runs.cohort.drift import drift_of
from her2path.runs.cohort.progress import BatchProgress
from her2path.runs.cohort.results import BatchWriter, ReportWriters
from her2path.runs.cohort.staining import LEAST_OTHERS, against_controls
from her2path.runs.cohort.tables import Table, read_rows
from her2path.scoring.calibration.staining import Medians, medians_of, staining_flag

USUAL: Medians = {("0", None): 0.0, ("1+", None): 0.04, ("2+", None): 0.12, ("3+", None): 0.4}


def scaled(factor: float) -> Medians:
    return {stated: factor * od for stated, od in USUAL.items()}


def codes(own: Medians, usual: Medians = USUAL, ratio: float = 1.5) -> list[str]:
    return [f.code for f in staining_flag(own, usual, ratio)]


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(1.0, []), (1.49, []), (1.51, ["OVER_STAINED"]), (0.68, []), (0.66, ["UNDER_STAINED"])],
)
def test_the_limit_is_a_ratio_either_way(factor: float, expected: list[str]) -> None:
    assert codes(scaled(factor)) == expected
    assert codes(scaled(factor), ratio=3.0) == []


@pytest.mark.parametrize(
    "own",
    [{}, {("0", None): 0.0}, {(None, 70_000.0): 0.01}],
    ids=["no control", "both unstained", "stating something else"],
)
def test_what_cannot_be_compared_is_not_judged(own: Medians) -> None:
    assert codes(own) == []
    assert codes(scaled(0.1), {}) == []


def test_one_control_of_two_decides_nothing() -> None:
    assert codes({("1+", None): 0.0, ("3+", None): 0.4}) == []
    assert codes({("1+", None): 0.0, ("3+", None): 0.2}) == ["UNDER_STAINED"]


def test_unstained_controls_are_under_and_a_stained_negative_is_over() -> None:
    assert codes({("2+", None): 0.0}) == ["UNDER_STAINED"]
    assert codes({("0", None): 0.05}) == ["OVER_STAINED"]


def test_the_sentence_has_the_figures() -> None:
    (told,) = staining_flag({(None, 7e4): 0.01, ("2+", None): 0.05}, {**USUAL, (None, 7e4): 0.03},
                            1.5, "the controls of its run B")  # fmt: skip
    assert "the controls of its run B" in told.message
    assert "control 2+ 0.050 (usual 0.120)" in told.message
    assert "control of 70000 receptors 0.010 (usual 0.030)" in told.message
    assert told.severity == "warning"


def test_medians_join_what_states_the_same() -> None:
    made = [Source(level="2+", median=od) for od in (0.1, 0.2, 0.12)]
    none = [Source(level="1+"), Source(median=0.3), Source(kind="reads")]
    assert medians_of([*made, *none]) == {("2+", None): pytest.approx(0.12)}


# -- the batch -------------------------------------------------------------------------------------


def slide(i: int, factor: float | None = 1.0, run: str = "") -> tuple[dict[str, str], Any]:
    facts = [ControlFacts(name="c", level=level, median=od)
             for (level, _), od in scaled(factor or 1.0).items()]  # fmt: skip
    made = SimpleNamespace(calibration=SimpleNamespace(controls=facts if factor else ()),
                           stain=None, score=None, h_score=None, sensitivity=None,
                           qc=SimpleNamespace(focus=None, nuclear_contrast=None))  # fmt: skip
    return {"slide_id": f"s{i}", "folder": f"f{i}", "case_id": f"c{i}", "batch": run}, made


def test_a_slide_is_judged_by_its_own_controls() -> None:
    slides = [*(slide(i, 1 + 0.02 * i) for i in range(5)), slide(5, 0.5), slide(6, 2.2)]
    found = [f.code if f else None for f in against_controls(slides, 1.5)]
    assert found == [None] * 5 + ["UNDER_STAINED", "OVER_STAINED"]


def test_a_slide_without_controls_is_judged_by_those_of_its_run() -> None:
    good = [slide(i, 1.0, "A") for i in range(3)]
    slides = [*good, slide(3, None, "A"), slide(4, 0.4, "B"), slide(5, None, "B"), slide(6, None)]
    found = against_controls(slides, 1.5)
    assert [f.code if f else None for f in found] == [
        None, None, None, None, "UNDER_STAINED", "UNDER_STAINED", None
    ]  # fmt: skip
    assert found[5] is not None
    assert "its run B" in found[5].message


def test_few_other_controls_judge_nothing() -> None:
    slides = [slide(i) for i in range(LEAST_OTHERS - 1)]
    assert against_controls([*slides, slide(8, 0.2)], 1.5) == [None] * LEAST_OTHERS
    assert against_controls([], 1.5) == []


def test_drift_and_index_name_the_slide(tmp_path: Path) -> None:
    tree = drift_of([*(slide(i) for i in range(4)), slide(4, 0.5)])
    (told,) = tree["staining"]
    assert (told["slide_id"], told["folder"], told["code"]) == ("s4", "f4", "UNDER_STAINED")
    assert drift_of([*(slide(i) for i in range(4)), slide(4, 0.5)], 4.0)["staining"] == []
    place = tmp_path / "slides" / "f4"
    place.mkdir(parents=True)
    (tmp_path / "drift.json").write_text(json.dumps(tree))
    (place / "result.json").write_text("{}")
    (row,) = index_values(BatchStore(tmp_path))["slides"]
    assert told["message"] in row["flags"]


def test_a_row_of_the_table_is_said_again(tmp_path: Path) -> None:
    table = Table(tmp_path / "a.csv", ("name", "flags"))
    table.add(1, {"name": "b"})
    table.add(0, {"name": "a"})
    table.replace(1, {"name": "b", "flags": "UNDER_STAINED"})
    table.finish()
    assert (tmp_path / "a.csv").read_text() == "name,flags\na,\nb,UNDER_STAINED\n"


def test_the_batch_adds_its_flag_to_the_slides_table(tmp_path: Path, monkeypatch: Any) -> None:
    writer = BatchWriter(
        BatchStore(tmp_path), [], Settings(), ReportWriters(), BatchProgress(), None
    )
    writer.board.begin("slides", ["s0", "s1"])
    for i in range(2):
        row = {"slide_id": f"s{i}", "folder": f"f{i}", "flags": "SOFT" if i else ""}
        writer.slide_done(i, row, fresh=True, status="complete")
    monkeypatch.setattr("her2path.runs.cohort.results.write_drift",
                        lambda *_: {"f0": "OVER_STAINED", "f1": "UNDER_STAINED"})  # fmt: skip
    writer.end(SimpleNamespace(peak_mb=0.0, budget=SimpleNamespace(memory_mb=0.0)))
    told = {row["slide_id"]: row["flags"] for row in read_rows(tmp_path / "slides.csv")}
    assert told == {"s0": "OVER_STAINED", "s1": "SOFT; UNDER_STAINED"}
