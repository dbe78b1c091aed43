"""A batch from manifest to index: rows, cases, what is done again, what is left alone."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cohort_samples import (
    SETTINGS,
    differences,
    linked,
    manifest,
    rows_of,
    shared_slides,
)

from her2path import api
from her2path.core.errors import ManifestError, OutputError, UsageError
from her2path.io.slide import SlideRef, open_slide
from her2path.io.store import RunLock, RunStore
from her2path.outputs import report
from her2path.runs.case import plan
from her2path.runs.case.rescore import rescore
from her2path.runs.cohort import BatchOptions, BatchProgress, ReportWriters, collect, run_batch

PLAIN = BatchOptions(
    reports=ReportWriters(slide=api.write_without_report, index=report.build_index)
)
FULL = BatchOptions(
    reports=ReportWriters(slide=api.write_reports, case=report.build_case, index=report.build_index)
)
ISH = "case_id,area_id,cell_id,her2,cep17\n" + "".join(f"k,1,{i},{h},2\n" for i, h in
                                                      enumerate([9] * 30))  # fmt: skip


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run one batch with cases, a broken slide, ISH and hostile words; return its folder."""
    home = tmp_path_factory.mktemp("night")
    linked(home)
    whole = (home / "s0.svs").read_bytes()
    (home / "bad.svs").write_bytes(whole[: len(whole) // 2])
    (home / "k.csv").write_text(ISH)
    rows = [
        {"slide": "s0.svs", "case_id": "../A <b>", "timepoint": "2020", "note": "=cmd()",
         "reader_score": "3+"},
        {"slide": "s1.svs", "case_id": "../A <b>", "timepoint": "2021", "note": "=cmd()"},
        {"slide": "s2.svs", "case_id": "k", "ish": "k.csv", "slide_id": "=two/..", "note": "x"},
        {"slide": "bad.svs", "case_id": "../A <b>", "note": "<script>"},
    ]  # fmt: skip
    path = manifest(home, rows)
    board = BatchProgress()
    result = run_batch(path, home / "out", SETTINGS, FULL, board)
    assert result.exit_code == 3
    assert (board.total, board.done) == (2, 2)
    return home


def test_every_slide_has_its_row(night: Path) -> None:
    out = night / "out"
    rows = rows_of(out / "slides.csv")
    assert [r["slide_id"] for r in rows] == ["s0", "s1", "'=two/.."]
    assert rows[0]["note"] == "'=cmd()"
    assert rows[0]["reader_score"] == "3+"
    assert rows[0]["category"].startswith("HER2-")
    assert float(rows[0]["tumour_cells"]) > 20
    for row in rows:
        stored = RunStore(out / "slides" / row["folder"]).result()
        assert row["ihc"] == stored.score.ihc
        assert (out / "slides" / row["folder"] / "report.html").is_file()
    (failed,) = rows_of(out / "failures.csv")
    assert failed["slide"] == "bad"
    assert failed["stage"] == "opening"
    assert not (out / "slides" / "bad" / "result.json").exists()
    run = json.loads((out / "run.json").read_text())
    assert run["status"] == "failures"
    assert run["counts"] == {"slides": 4, "done": 3, "kept": 0, "not_evaluable": 0, "failed": 1,
                             "cases": 2, "failed_cases": 0}  # fmt: skip
    assert (out / "index.html").is_file()


def test_no_name_leaves_out(night: Path) -> None:
    out = night / "out"
    assert {p.name for p in night.iterdir()} == {"out", "s0.svs", "s1.svs", "s2.svs", "bad.svs",
                                                 "k.csv", "manifest.csv"}  # fmt: skip
    assert len(list((out / "slides").iterdir())) == 4
    assert len(list((out / "cases").iterdir())) == 2
    for page in out.rglob("*.html"):
        assert "A <b>" not in page.read_text()
    assert "A &lt;b&gt;" in (out / "index.html").read_text() + "".join(
        p.read_text() for p in (out / "cases").rglob("*.html")
    )


def test_a_case_pools_its_slides(night: Path) -> None:
    out = night / "out"
    row = next(r for r in rows_of(out / "cases.csv") if r["slides"] == "3")
    assert (row["evaluable"], row["failed"]) == ("2", "1")
    assert row["note"] == ""
    case = json.loads((out / "cases" / row["folder"] / "case.json").read_text())
    slides = [RunStore(out / "slides" / n).result() for n in ("s0", "s1")]
    assert case["case_id"] == "../A <b>"
    assert case["counts"]["tumour"] == sum(s.counts.tumour for s in slides)
    for name, share in case["fractions"].items():
        pooled = sum(s.fractions[name] * s.counts.tumour for s in slides)
        assert share == pytest.approx(pooled / case["counts"]["tumour"])
    weighted = sum(s.h_score * s.counts.tumour for s in slides) / case["counts"]["tumour"]
    assert case["h_score"] == pytest.approx(weighted)
    assert case["score"]["category"] == case["score_highest"]["category"]
    assert case["score_highest"]["ihc"] == max(s.score.ihc for s in slides)
    assert case["score_pooled"]["cells"] == case["counts"]["tumour"]
    # a pooled share has its own interval: it holds the share, which one slide's need not
    sure = case["score_pooled"]["uncertainty"]["intervals"]
    for name, share in case["fractions"].items():
        assert sure[name][0] <= share <= sure[name][1]
    assert sure != case["score_highest"]["uncertainty"]["intervals"]
    assert [t["timepoint"] for t in case["timepoints"]] == ["2020", "2021"]
    assert case["changes"][0]["from"] == "2020"
    assert [s["status"] for s in case["slides"]] == ["complete", "complete", "failed"]
    assert case["slides"][0]["reader_score"] == "3+"
    assert "SLIDES_MISSING" in [f["code"] for f in case["qc"]["flags"]]
    assert case["heterogeneity"]["positive_cell_fraction"] == pytest.approx(
        sum(s.heterogeneity.positive_cell_fraction * s.counts.tumour for s in slides)
        / case["counts"]["tumour"]
    )


def test_ish_settles_slide_and_case(night: Path) -> None:
    out = night / "out"
    row = next(r for r in rows_of(out / "slides.csv") if r["case_id"] == "k")
    assert row["ish_status"] == "positive"
    assert row["category"] == "HER2-positive"
    stored = RunStore(out / "slides" / row["folder"])
    assert stored.ish()["cases"][0]["status"] == "positive"
    case = json.loads((out / "cases" / "k" / "case.json").read_text())
    assert case["score"]["ish_status"] == "positive"
    assert json.loads((out / "cases" / "k" / "ish.json").read_text())["cases"][0]["group"] == 1


def test_again_nothing_is_done_and_nothing_changes(night: Path, tmp_path: Path) -> None:
    out, before = night / "out", tmp_path / "out"
    shutil.copytree(out, before)
    stamps = {p: p.stat().st_mtime_ns for p in (out / "slides").rglob("*") if p.is_file()}
    result = run_batch(night / "manifest.csv", out, SETTINGS, FULL)
    assert result.run["counts"]["kept"] == 3
    assert differences(before, out) == []
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps


def test_only_what_is_stale_is_done_again(tmp_path: Path) -> None:
    home = linked(tmp_path / "in", 2)
    rows = [{"slide": "s0.svs", "case_id": "a"}, {"slide": "s1.svs", "case_id": "b"}]
    path, out = manifest(home, rows), tmp_path / "out"
    run_batch(path, out, SETTINGS, PLAIN)
    case_a = (out / "cases" / "a" / "case.json").stat().st_mtime_ns
    # another slide under one name, then another guideline: that slide and its case, only those
    (home / "s1.svs").unlink()
    shutil.copyfile(shared_slides() / "s2.svs", home / "s1.svs")
    again = run_batch(path, out, SETTINGS, PLAIN)
    assert (again.run["counts"]["done"], again.run["counts"]["kept"]) == (2, 1)
    assert (out / "cases" / "a" / "case.json").stat().st_mtime_ns == case_a
    rows[0]["guideline"] = "gastric_biopsy"
    case_b = (out / "cases" / "b" / "case.json").stat().st_mtime_ns
    ruled = run_batch(manifest(home, rows), out, SETTINGS, PLAIN)
    assert ruled.run["counts"]["kept"] == 1
    assert rows_of(out / "slides.csv")[0]["guideline"] == "gastric_biopsy"
    assert (out / "cases" / "b" / "case.json").stat().st_mtime_ns == case_b
    # a stale result that cannot be made again is not taken for a success, nor lost
    good = (home / "s1.svs").read_bytes()
    (home / "s1.svs").write_bytes(good[:100_000])
    failed = run_batch(path, out, SETTINGS, PLAIN)
    assert failed.exit_code == 3
    assert not (out / "slides" / "s1" / "result.json").exists()
    assert [r["case_id"] for r in rows_of(out / "cases.csv")] == ["a", "b"]
    assert not (out / "cases" / "b" / "case.json").exists()
    (home / "s1.svs").write_bytes(good)
    mended = run_batch(path, out, SETTINGS, PLAIN)
    assert (mended.exit_code, mended.run["counts"]["kept"]) == (0, 2)


def test_what_a_fingerprint_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def mark(mpp: float | None = None, drawn: str | None = None, **changes: object) -> str:
        ref = SlideRef(str(shared_slides() / "s0.svs"), mpp=mpp, force_mpp=mpp is not None)
        with open_slide(ref) as slide:
            measured = plan.measured_sha256(slide.info, drawn)
        settings = SETTINGS.replace({k.replace("__", "."): v for k, v in changes.items()})
        return plan.fingerprint(measured, settings)

    one = mark()
    others = [mark(mpp=0.26), mark(drawn="x"), mark(score__min_cells=21), mark(seed=7),
              mark(membrane__complete_at=0.81), mark(score__guideline="heracles")]  # fmt: skip
    assert len({one, *others}) == 1 + len(others)
    # how it is run changes nothing
    assert mark() == mark(stream__workers=7, stream__block_px=2048, stream__memory_mb=999) == one
    monkeypatch.setattr(plan, "__version__", "9.9")
    assert mark() not in (one, *others)


def test_a_slide_that_was_scored_again_is_done_as_the_batch_asks(tmp_path: Path) -> None:
    home, out = linked(tmp_path / "in", 2), tmp_path / "out"
    run_batch(home, out, SETTINGS, PLAIN)
    shutil.copytree(out, tmp_path / "before")
    rescore(out / "slides" / "s0", guideline="gastric_resection", reports=api.write_without_report)
    again = run_batch(home, out, SETTINGS, PLAIN)
    assert again.run["counts"]["kept"] == 1
    assert differences(tmp_path / "before", out) == []


def test_pseudonymised_no_name_is_anywhere(tmp_path: Path) -> None:
    home = tmp_path / "Jane Doe 1950"
    linked(home / "in", 1)
    (home / "in" / "s0.svs").rename(home / "in" / "DOE_JANE.svs")
    (home / "in" / "DOE_broken.svs").write_bytes(b"nothing")
    rows = [{"slide": "DOE_JANE.svs", "patient": "Jane Doe"}, {"slide": "DOE_broken.svs"}]
    how = BatchOptions(pseudonymise=True, reports=FULL.reports)
    result = run_batch(manifest(home / "in", rows), tmp_path / "out", SETTINGS, how)
    assert result.run["counts"]["done"] == 1
    for path in (tmp_path / "out").rglob("*"):
        assert "doe" not in path.name.casefold()
        if path.is_file():
            # four letters of base64 turn up in pictures by chance
            data = re.sub(rb'base64,[^"]+', b"", path.read_bytes()).lower()
            assert b"jane" not in data, path
            assert b"doe_" not in data, path


def test_tma_cores_become_cases(tmp_path: Path) -> None:
    home = linked(tmp_path / "in", 1)
    (home / "tma.csv").write_text("row,col,case_id\n1,1,core-case\n")
    path = manifest(home, [{"slide": "s0.svs", "tma_map": "tma.csv"}])
    result = run_batch(path, tmp_path / "out", SETTINGS, PLAIN)
    assert result.exit_code == 0
    rows = {r["case_id"]: r for r in rows_of(tmp_path / "out" / "cases.csv")}
    assert set(rows) == {"core-case"}
    case = json.loads((tmp_path / "out" / "cases" / "core-case" / "case.json").read_text())
    assert case["slides"][0]["cores"] == [[1, 1]]
    stored = RunStore(tmp_path / "out" / "slides" / "s0").result()
    assert 20 < case["counts"]["tumour"] <= stored.counts.tumour


def _link_slides(out: Path, away: Path) -> None:
    (out / "slides").symlink_to(away)


def _link_slide(out: Path, away: Path) -> None:
    (out / "slides").mkdir()
    (out / "slides" / "s0").symlink_to(away)


def _link_table(out: Path, away: Path) -> None:
    (out / "slides.csv").symlink_to(away / "x.csv")


def _single(out: Path, away: Path) -> None:
    (out / "result.json").write_text("{}")


@pytest.mark.parametrize("spoil", [_link_slides, _link_slide, _link_table, _single])
def test_an_out_that_leads_elsewhere_is_refused(
    tmp_path: Path, spoil: Callable[[Path, Path], None]
) -> None:
    home = linked(tmp_path / "in", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "away").mkdir()
    spoil(tmp_path / "out", tmp_path / "away")
    with pytest.raises(OutputError):
        run_batch(home, tmp_path / "out", SETTINGS, PLAIN)
    assert list((tmp_path / "away").iterdir()) == []


def test_a_second_batch_on_one_out_is_refused(tmp_path: Path) -> None:
    home = linked(tmp_path / "in", 1)
    with RunLock(tmp_path / "out"), pytest.raises(OutputError, match="is being written by process"):
        run_batch(home, tmp_path / "out", SETTINGS, PLAIN)


def test_nothing_is_made_before_the_manifest_is_sound(tmp_path: Path) -> None:
    path = manifest(tmp_path, [{"slide": "nowhere.svs"}])
    with pytest.raises(ManifestError):
        run_batch(path, tmp_path / "out", SETTINGS, PLAIN)
    assert not (tmp_path / "out").exists()


def test_collect_joins_what_was_scored_elsewhere(night: Path, tmp_path: Path) -> None:
    away = tmp_path / "jobs"
    for name in ("s0", "s1"):
        shutil.copytree(night / "out" / "slides" / name, away / name)
    (away / "failed").mkdir()
    # the slides themselves need not be there any more
    rows = [{"slide": f"archive/{n}.svs", "case_id": "c"} for n in ("s0", "s1")]
    result = collect([away], tmp_path / "out", manifest(tmp_path, rows), FULL.reports)
    assert result.exit_code == 0
    assert result.run["counts"]["done"] == 2
    (row,) = rows_of(tmp_path / "out" / "cases.csv")
    old = next(r for r in rows_of(night / "out" / "cases.csv") if r["slides"] == "3")
    for name in ("ihc", "h_score", "tumour_cells", "positive_cell_fraction", "moran_i"):
        assert row[name] == old[name]
    # without a manifest each is a case of its own, and the empty folder is a failure
    alone = collect([away], tmp_path / "alone", reports=PLAIN.reports)
    assert alone.exit_code == 3
    made = {r["case_id"]: r["status"] for r in rows_of(tmp_path / "alone" / "cases.csv")}
    assert made == {"failed": "failed", "s0": "complete", "s1": "complete"}
    again = collect([away], tmp_path / "alone", reports=PLAIN.reports)
    assert again.run["counts"]["kept"] == 2
    with pytest.raises(UsageError):
        collect([tmp_path / "in"], tmp_path / "none")


def test_collect_of_a_batch_keeps_its_cases(night: Path, tmp_path: Path) -> None:
    result = collect([night / "out"], tmp_path / "out", reports=PLAIN.reports)
    assert result.run["counts"]["failed"] == 1
    rows = {r["case_id"]: r for r in rows_of(tmp_path / "out" / "cases.csv")}
    assert rows["../A <b>"]["evaluable"] == "2"
    assert rows["k"]["category"] == "HER2-positive"
    assert rows_of(tmp_path / "out" / "slides.csv")[0]["note"] == "'=cmd()"


def test_a_slide_leaves_few_files_and_no_pictures_of_its_label(night: Path) -> None:
    for folder in (night / "out" / "slides").iterdir():
        files = [p for p in folder.rglob("*") if p.is_file()]
        assert len(files) <= 100
        assert not [p for p in files if p.stem.casefold() in ("label", "macro")]
