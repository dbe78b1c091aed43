"""`her2path agree`: the command, its files and report, the program as a reader, the outcome."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from fake_run import Plane, make_run

import her2path as h2
from her2path.cli import main
from her2path.core.errors import OutputError, UsageError
from her2path.io.reads import reads_of
from her2path.io.store import RunStore
from her2path.runs.cohort.readings import Readings
from her2path.scoring.agreement import AgreeOptions

#: kinds of synthetic runs by case, and what they are scored
CASES = {"k0": "zero", "k1": "low", "k2": "two_plus", "k3": "clustered"}


def call(*args: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(a) for a in args])
    return int(left.value.code or 0)


def write_csv(path: Path, header: str, *rows: str) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a batch of four cases of one slide each, with its tables."""
    out = tmp_path_factory.mktemp("batch")
    lines = []
    for case, kind in CASES.items():
        store = make_run(out / "slides" / f"{case}-slide", kind, plane=Plane(2000, 2000))
        tree = store.result().as_dict()
        folder = out / "cases" / case
        folder.mkdir(parents=True)
        slide = {"slide_id": f"{case}-slide", "folder": f"{case}-slide", "status": "complete"}
        tree |= {"case_id": case, "slides": [slide]}
        if tree["score"] is not None:
            tree["score"]["ish_status"] = "positive" if case == "k3" else None
        (folder / "case.json").write_text(json.dumps(tree), encoding="utf-8")
        lines.append(f"{case},{'A' if case in ('k0', 'k1') else 'B'}")
    write_csv(out / "cases.csv", "case_id,site", *lines)
    return out


@pytest.fixture
def reads(batch: Path, tmp_path: Path) -> Path:
    """Return reads of those cases: r1 as the program, r2 a step apart in one, k9 has no result."""
    own = {case: score(batch, case) for case in CASES}
    rows = [f"{case},r1,{s},100" for case, s in own.items()]
    rows += [f"{case},r2,{s if case != 'k3' else '2+'},120" for case, s in own.items()]
    return write_csv(tmp_path / "reads.csv", "case_id,reader,score,h_score", *rows, "k9,r1,1+,90")


def score(batch: Path, case: str) -> str:
    return str(json.loads((batch / "cases" / case / "case.json").read_text())["score"]["ihc"])


def test_readers_and_program(batch: Path, reads: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call("agree", reads, "--results", batch, "-o", out, "--strata", "site", "--draws", 200,
                "--quiet") == 0  # fmt: skip
    tree = json.loads((out / "agreement.json").read_text(encoding="utf-8"))
    pairs = {(p["a"], p["b"]): p for p in tree["pairs"]}
    assert pairs["r1", "her2path"]["exact"] == 1
    assert pairs["r2", "her2path"]["n"] == 4
    assert pairs["r2", "her2path"]["exact"] == 0.75
    assert pairs["ish", "her2path"]["n"] == 1
    assert tree["without_result"] == ["k9"]
    assert {k: v["cases"] for k, v in tree["strata"]["site"].items()} == {
        "A": 2, "B": 2, "not given": 1}  # fmt: skip
    h_score = RunStore(batch / "slides" / "k0-slide").result().h_score
    assert h_score is not None
    assert pairs["r1", "her2path"]["h_score"]["n"] == 4


def test_csv_says_the_same_as_json(reads: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tree = h2.agree(reads, out=out, options=AgreeOptions(draws=200))
    with (out / "agreement.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    (row,) = [r for r in rows if (r["kind"], r["figure"], r["cutoff"]) == (
        "pair", "kappa.quadratic", "") and r["b"] == "r2"]  # fmt: skip
    kappa = tree["pairs"][0]["kappa"]
    assert [float(row[k]) for k in ("value", "low", "high")] == [
        kappa["quadratic"], kappa["quadratic_low"], kappa["quadratic_high"]]  # fmt: skip
    assert {r["cutoff"] for r in rows} >= {"0|1+", "1+|2+", "2+|3+"}
    assert {r["kind"] for r in rows} == {"pair", "all", "onest"}


def test_report_shows_every_section_or_says_why(batch: Path, reads: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_csv(tmp_path / "pcr.csv", "case_id,pcr", "k0,0", "k1,0", "k2,1", "k3,1")
    h2.agree(reads, batch, out, outcome=f"{tmp_path / 'pcr.csv'}:pcr",
             options=AgreeOptions(draws=200))  # fmt: skip
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "fault of the program" not in page
    assert page.count("<svg") >= 1 + 3 + 1 + 2
    for name in ("overall", "kappas", "cutoffs", "confusion", "differences", "onest", "measures",
                 "intra", "strata", "outcome", "basis"):  # fmt: skip
        assert f'id="h-{name}"' in page
    assert "No reader has read twice" in page
    # nothing from outside
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)


def test_names_that_are_markup_stay_text(tmp_path: Path) -> None:
    table = {"case_id": ["c1", "c2"] * 2, "reader": ["<script>x</script>"] * 2 + ["b&b"] * 2,
             "score": ["0", "1+", "0", "2+"]}  # fmt: skip
    h2.agree(table, out=tmp_path, options=AgreeOptions(draws=100))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_json_alone_on_stdout(
    reads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("agree", reads, "-o", tmp_path / "out", "--json", "--draws", 100) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["pairs"][0]["a"] == "r1"
    assert said.err == ""


def test_two_runs_leave_the_same_files(reads: Path, tmp_path: Path) -> None:
    for name in "ab":
        assert call("agree", reads, "-o", tmp_path / name, "--draws", 100, "--quiet") == 0
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(("more", "words"), [
    (["--outcome", "nothing"], "is not FILE.csv:COLUMN"), (["--strata", "planet"], "'planet'"),
    (["--margin", "2"], "margin 2"), (["--draws", "1"], "1 draws"),
    (["--compare", "x"], "FIGURE:a,b:c,d"), (["--results", "{none}"], "no complete result"),
    (["--manifest", "{none}/m.csv"], "cannot be read"),
])  # fmt: skip
def test_wrong_usage_is_one_line(
    reads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    given = [m.replace("{none}", str(tmp_path / "none")) for m in more]
    if "--manifest" in given:
        given += ["--strata", "site"]
    assert call("agree", reads, "-o", tmp_path / "out", *given) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert words in said
    assert not (tmp_path / "out").exists()


def test_single_reader_and_case_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write_csv(tmp_path / "one.csv", "case_id,reader,score", "c1,r1,1+", "c2,r1,2+")
    assert call("agree", one, "-o", tmp_path / "out") == 2
    assert "r1 is the only reader" in capsys.readouterr().err
    case = write_csv(tmp_path / "case.csv", "case_id,reader,score", "c1,r1,1+", "c1,r2,2+")
    assert call("agree", case, "-o", tmp_path / "out") == 2
    assert "one case only" in capsys.readouterr().err


def test_results_are_not_written_over(batch: Path, reads: Path) -> None:
    before = sorted(p.name for p in batch.iterdir())
    with pytest.raises(OutputError, match="holds results"):
        h2.agree(reads, out=batch)
    with pytest.raises(OutputError, match="holds results"):
        h2.agree(reads, out=batch / "slides" / "k0-slide")
    assert sorted(p.name for p in batch.iterdir()) == before


def test_program_reads_slides_and_regions(batch: Path) -> None:
    store = RunStore(batch / "slides" / "k3-slide")
    region = next(r for r in store.regions().to_pylist() if r["score"] is not None)
    rows = [{"case_id": "k3", "slide_id": "k3-slide", "reader": "r1", "score": 1,
             "region_id": region["region_id"], "percent_3+": 5},
            {"case_id": "k2", "slide_id": "k2-slide", "reader": "r1", "score": 1},
            {"case_id": "k1", "slide_id": "other", "reader": "r1", "score": 1},
            {"case_id": "k3", "slide_id": "k3-slide", "reader": "r1", "score": 1,
             "region_id": "nowhere"}]  # fmt: skip
    own = Readings(batch).reads(reads_of(rows))
    assert [r.item for r in own] == [
        ("k3", "k3-slide", str(region["region_id"])), ("k2", "k2-slide", "")]  # fmt: skip
    assert own[0].score == ["0", "1+", "2+", "3+"].index(region["score"])
    strong = region["fraction_intense_complete"] + region["fraction_intense_incomplete"]
    assert own[0].values["percent_3+"] == pytest.approx(100 * strong)


def test_one_slide_is_its_own_case(batch: Path) -> None:
    out = batch / "slides" / "k2-slide"
    name = RunStore(out).result().slide.id
    (own,) = Readings(out).reads(reads_of({"case_id": [name], "reader": ["r"], "score": [1]}))
    assert own.reader == "her2path"
    with pytest.raises(UsageError, match="no case of the reads has a result"):
        Readings(out).reads(reads_of({"case_id": ["else"], "reader": ["r"], "score": [1]}))


def test_a_reader_cannot_have_the_programs_name(batch: Path) -> None:
    table = {"case_id": ["k1"], "reader": ["her2path"], "score": ["1+"]}
    with pytest.raises(UsageError, match="which --results adds"):
        h2.agree(table, batch)


def test_outcome_needs_no_reads(batch: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "o.csv", "case_id,pCR", "k0,0", "k1,0", "k2,1", "k3,1", "k8,1")
    out = tmp_path / "out"
    assert call("agree", "--results", batch, "--outcome", f"{tmp_path / 'o.csv'}:pCR", "-o", out,
                "--quiet") == 0  # fmt: skip
    tree = json.loads((out / "agreement.json").read_text(encoding="utf-8"))["outcome"]
    assert (tree["cases"], tree["positive"]) == (4, 2)
    rows = {r["finding"]: r for r in tree["associations"]}
    above = rows["score 2+ or above"]
    assert (above["with"], above["without"]) == (
        {"n": 2, "positive": 2}, {"n": 2, "positive": 0})  # fmt: skip
    assert above["p"] == pytest.approx(1 / 3)
    assert above["odds_ratio"] is None
    assert above["bounded"] is False
    assert {"heterogeneous", "h_score", "positive_cell_fraction"} <= set(rows)
    assert all(r["q"] is None or r["q"] >= r["p"] - 1e-12 for r in rows.values())


def test_an_outcome_that_is_the_same_everywhere(batch: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "o.csv", "case_id,pcr", "k0,1", "k1,1")
    with pytest.raises(UsageError, match="all 2 cases have the same outcome"):
        h2.agree(results=batch, outcome=f"{tmp_path / 'o.csv'}:pcr")
    with pytest.raises(UsageError, match="nothing to go with"):
        h2.agree(outcome=f"{tmp_path / 'o.csv'}:pcr")
    with pytest.raises(UsageError, match="there are no reads"):
        h2.agree()
