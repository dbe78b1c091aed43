"""Drift over a batch: Westgard's rules, limits, slides outside, slides scanned twice."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from her2path.core.results import Result
from her2path.outputs.report import build_index
from her2path.outputs.report.drift import chart
from her2path.runs.cohort.drift import drift_of
from her2path.scoring.westgard import FEWEST_VALUES, Limits, broken, limits_of

STEADY = Limits(0.0, 1.0, 20)


@pytest.mark.parametrize(
    ("values", "rules"),
    [
        ([0, 1.9], ()),
        ([0, 2.1], ("1_2s",)),
        ([0, -3.1], ("1_2s", "1_3s")),
        ([2.1, 2.2], ("1_2s", "2_2s")),
        ([2.1, -2.2], ("1_2s", "R_4s")),
        ([2.1, 0, -2.2], ("1_2s",)),
        ([1.1, 1.2, 1.1, 1.3], ("4_1s",)),
        ([1.1, -1.2, 1.1, 1.3], ()),
        ([0.1] * 10, ("10_x",)),
        ([0.1] * 9, ()),
        ([*[0.1] * 9, -0.1], ()),
        ([2.1, np.nan, 2.2], ("1_2s", "2_2s")),
        ([2.1, np.nan], ()),
    ],
)
def test_rules_are_those_of_westgard(values: list[float], rules: tuple[str, ...]) -> None:
    assert broken(np.array(values, float), STEADY)[-1] == rules


def test_an_outlier_does_not_widen_its_own_limits() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(10, 1, 20)
    without = limits_of(values)
    with_it = limits_of(np.append(values, 40.0))
    assert without is not None
    assert with_it is not None
    assert (with_it.mean, with_it.sd) == pytest.approx((without.mean, without.sd))
    assert broken(np.array([40.0]), with_it)[0] == ("1_2s", "1_3s")


def test_few_or_equal_values_have_no_limits() -> None:
    assert limits_of(np.arange(FEWEST_VALUES - 1.0)) is None
    assert limits_of(np.ones(30)) is None
    assert limits_of(np.array([np.nan] * 30)) is None


def slide(i: int, white: float = 240.0, **row: Any) -> tuple[dict[str, str], Any]:
    """Return a manifest's row and what drift reads of a result."""
    control = SimpleNamespace(level="3+", receptors=None, median=0.4 + 0.001 * (i % 5))
    result = SimpleNamespace(
        stain=SimpleNamespace(
            white_point=(white + (i % 7) * 0.3,) * 3, method="estimated",
            hematoxylin=(0.65, 0.7, 0.29), dab=(0.27, 0.57, 0.78 + 0.001 * (i % 3)),
        ),
        qc=SimpleNamespace(focus=0.5, nuclear_contrast=None),
        calibration=SimpleNamespace(controls=(control,)),
        sensitivity={"od_50": 0.05, "od_95": None},
        score=SimpleNamespace(ihc=row.pop("ihc", "2+")), h_score=100.0,
    )  # fmt: skip
    known = {"slide_id": f"s{i}", "case_id": f"c{i}", "date": "", "scanner": "", **row}
    return known, result


def quantity(tree: dict[str, Any], name: str) -> dict[str, Any]:
    return next(q for q in tree["quantities"] if q["quantity"] == name)


def test_a_slide_outside_is_named_with_what_it_is_outside_of() -> None:
    slides = [slide(i) for i in range(20)]
    slides[12] = slide(12, white=200.0)
    tree = drift_of(slides)
    assert tree["outside"] == [{"slide_id": "s12", "quantities": ["white point"]}]
    point = quantity(tree, "white point")["points"][12]
    assert point["rules"] == ["1_2s", "1_3s"]
    assert point["z"] < -3
    names = [q["quantity"] for q in tree["quantities"]]
    assert names[0] == "control 3+"
    assert "detection limit, 50 %" in names
    # nobody has it
    assert "nuclear contrast" not in names
    # all the same: no limits, and no rule
    assert quantity(tree, "focus")["sd"] is None
    assert chart(quantity(tree, "white point")) is not None


def test_slides_stand_in_the_order_of_their_dates() -> None:
    days = ["2024-03-02", "2024-01-05", "2024-02-01"]
    tree = drift_of([slide(i, date=d) for i, d in enumerate(days)])
    assert [s["slide_id"] for s in tree["slides"]] == ["s1", "s2", "s0"]
    assert tree["order"] == "by date"
    part = drift_of([slide(0, date=days[0]), slide(1)])
    assert [s["slide_id"] for s in part["slides"]] == ["s0", "s1"]
    mixed = drift_of([slide(0, date="2024-03-02"), slide(1, date="soon")])
    assert mixed["order"].startswith("as in the manifest")


def test_slides_scanned_twice_are_compared() -> None:
    slides = []
    for i in range(12):
        ihc = ("0", "1+", "2+", "3+")[i % 4]
        other = "2+" if i == 3 else ihc
        slides.append(slide(2 * i, case_id=f"c{i}", scanner="A", ihc=ihc))
        slides.append(slide(2 * i + 1, case_id=f"c{i}", scanner="B", ihc=other))
    found = drift_of(slides)["scanners"]
    assert found["samples"] == 12
    assert (found["pairs"][0]["a"], found["pairs"][0]["b"]) == ("A", "B")
    assert found["pairs"][0]["exact"] == pytest.approx(11 / 12)
    one = drift_of([slide(i, scanner="A") for i in range(5)])["scanners"]
    assert "scanned on two" in one["reason"]
    twice = drift_of([*slides, slide(99, case_id="c0", scanner="A")])["scanners"]
    assert twice["left_out"] == ["c0"]


def test_the_page_shows_charts_and_names_the_slides(tmp_path: Path) -> None:
    slides = [slide(i, white=240.0 + i % 5) for i in range(20)]
    slides[3] = slide(3, white=200.0, case_id="<b>")
    (tmp_path / "slides").mkdir()
    (tmp_path / "drift.json").write_text(json.dumps(drift_of(slides)))
    build_index(tmp_path)
    page = (tmp_path / "drift.html").read_text()
    assert page.count("<svg") == len(drift_of(slides)["quantities"])
    assert "&lt;svg" not in page
    assert "1 3s" in page
    assert '<th scope="row">s3</th>' in page
    assert "no sample was scanned on two scanners" in page
    assert 'href="drift.html"' in (tmp_path / "index.html").read_text()


def test_a_result_has_what_drift_looks_at() -> None:
    fields = Result.model_fields
    assert {"stain", "qc", "calibration", "score", "h_score"} <= set(fields)
