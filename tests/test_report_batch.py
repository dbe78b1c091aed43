"""Case reports and the batch's index."""

import json
from pathlib import Path

import pyarrow.compute as pc
import pytest
from browser import MISSING, browser, console, requests
from fake_run import SETTINGS, make_run

from her2path.io.store import RunStore
from her2path.outputs import report
from her2path.outputs.report import parts
from her2path.outputs.report.context import CaseContext
from her2path.space import heterogeneity


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("batch")
    trees = {
        k: make_run(out / "slides" / k, k).result().as_dict()
        for k in ("clustered", "zero", "not_evaluable")
    }
    levels = heterogeneity.case(
        [_sample(out, "zero", "2024"), _sample(out, "clustered", "2025")], SETTINGS
    )
    _case(
        out,
        "case <1>",
        {
            **trees["clustered"],
            "score_pooled": {
                "ihc": "2+",
                "uncertainty": {"intervals": {"intense_complete": [0.123, 0.456]}},
            },
            "score_highest": {"ihc": "3+", "slide_id": "clustered"},
            "slides": [
                {"slide_id": "clustered", "folder": "clustered"},
                {"slide_id": "Zero #1", "folder": "zero", "specimen": "biopsy"},
                {"slide_id": "lost", "folder": "lost"},
            ],
            "timepoints": levels["timepoints"],
            "changes": levels["changes"],
        },
    )
    _case(
        out,
        "case2",
        {
            **trees["not_evaluable"],
            "score_pooled": None,
            "score_highest": None,
            "slides": [{"slide_id": "not_evaluable", "folder": "not_evaluable"}],
            "timepoints": None,
        },
    )
    (out / "failures.csv").write_text("slide,stage,error\nbad.svs,read,<b>cannot</b> be read\n")
    report.build_all(out)
    return out


def _sample(out: Path, kind: str, timepoint: str) -> heterogeneity.Sample:
    store = RunStore(out / "slides" / kind)
    tumour = store.cells(where=pc.field("cell_type") == "tumour")
    return heterogeneity.sample(
        kind, tumour, SETTINGS, timepoint=timepoint, regions=store.regions()
    )


def _case(out: Path, name: str, tree: dict) -> None:
    folder = out / "cases" / name.replace(" ", "_").replace("<", "").replace(">", "")
    folder.mkdir(parents=True)
    (folder / "case.json").write_text(json.dumps({**tree, "case_id": name}))


def test_everything_is_made(batch: Path) -> None:
    made = sorted(str(p.relative_to(batch)) for p in batch.rglob("*.html"))
    assert made == [
        "cases/case2/report.html",
        "cases/case_1/report.html",
        "index.html",
        "slides/clustered/report.html",
        "slides/not_evaluable/report.html",
        "slides/zero/report.html",
    ]


def test_a_case_shows_its_slides_and_time_points(batch: Path) -> None:
    text = (batch / "cases" / "case_1" / "report.html").read_text()
    assert "Case case &lt;1&gt;" in text
    assert 'href="../../slides/zero/report.html"' in text
    assert "biopsy" in text
    assert "lost" in text
    assert "Zero #1" in text
    h_score = RunStore(batch / "slides" / "clustered").result().h_score
    assert f"H-score over time: 2024: 3, 2025: {h_score:.0f}." in text
    assert "2024 to 2025" in text
    assert "0 to 3+" in text
    assert "A fault of the program" not in text


def test_pooled_shares_stand_beside_pooled_intervals(batch: Path) -> None:
    text = (batch / "cases" / "case_1" / "report.html").read_text(encoding="utf-8")
    patterns = text.split('id="patterns"')[1].split("</section>")[0]
    assert "12.3 % to 45.6 %" in patterns
    context = CaseContext(batch / "cases" / "case_1")
    assert parts.intervals(context) == {"intense_complete": (0.123, 0.456)}


def test_a_case_without_a_score_says_so(batch: Path) -> None:
    text = (batch / "cases" / "case2" / "report.html").read_text()
    assert "Not evaluable" in text
    assert "one time point only" in text
    assert "A fault of the program" not in text


def test_links_of_the_index_lead_somewhere(batch: Path) -> None:
    text = (batch / "index.html").read_text()
    links = [part.split('"')[0] for part in text.split('href="')[1:]]
    for link in links:
        assert link.startswith("#") or (batch / link).is_file(), link
    assert "&lt;b&gt;cannot&lt;/b&gt; be read" in text


@pytest.mark.skipif(MISSING, reason="needs Chromium and its driver")
def test_the_index_sorts_and_filters(batch: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as driver:
        driver.get((batch / "index.html").as_uri())
        names = lambda: [  # noqa: E731
            r.find_element("css selector", "th").text.rstrip(">").split("<")[-1]
            for r in driver.find_elements("css selector", "#slides tbody tr")
            if r.is_displayed()
        ]
        assert names() == ["not_evaluable", "clustered", "zero"]  # what needs a look first
        button = next(b for b in driver.find_elements("css selector", "#slides thead button")
                      if b.text == "H-score")  # fmt: skip
        button.click()
        assert names() == ["not_evaluable", "zero", "clustered"]
        button.click()
        assert names() == ["clustered", "zero", "not_evaluable"]
        driver.find_element("id", "f-slides").send_keys("3+ clust")
        assert names() == ["clustered"]
        assert driver.find_element("id", "n-slides").text == "1 of 3"
        assert console(driver) == []
        assert all(u.startswith("file:") for u in requests(driver))


@pytest.mark.skipif(MISSING, reason="needs Chromium and its driver")
@pytest.mark.parametrize("kind", ["clustered", "zero", "not_evaluable"])
def test_pages_open_without_a_word_of_complaint(kind: str, batch: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as driver:
        driver.get((batch / "slides" / kind / "report.html").as_uri())
        assert console(driver) == []
        assert len(requests(driver)) == 1
        wide = driver.execute_script("return document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0
        if kind != "not_evaluable":
            layer = driver.find_element("css selector", ".layer")
            assert layer.is_displayed()
            driver.find_element("css selector", "input.cells").click()
            assert not layer.is_displayed()
            # everything that matters lies on the first screen
            for selector in (".stack", ".score", ".prob", ".verdict", ".usual"):
                box = driver.find_element("css selector", selector).rect
                assert box["y"] + box["height"] <= 900, selector
