"""`her2path calibrate` from tables and stored cells to a settings file, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fake_run
import pytest
import yaml
from fake_run import Plane, make_run

from her2path.cli import main
from her2path.core.errors import ManifestError, OutputError, UsageError
from her2path.core.settings import Assay, Settings, load_settings
from her2path.io.store import RunStore
from her2path.runs.calibrate import Request, calibrate
from her2path.runs.case.rescore import rescore
from her2path.runs.cohort.hiding import hide_names
from her2path.runs.cohort.inputs import settings_for
from her2path.runs.cohort.manifest import Entry
from her2path.scoring.calibration.slidewise import other_assay

SMALL = Plane(1040, 1040)
#: kind of a case, and what a pathologist would read
CASES = {"zero": "0", "low": "1+", "two_plus": "2+", "clustered": "3+"}


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a batch of twelve cases of one slide each."""
    out = tmp_path_factory.mktemp("calibrate") / "batch"
    for i in range(12):
        kind = list(CASES)[i % 4]
        make_run(out / "slides" / f"s{i}", kind, plane=SMALL, seed=i)
        folder = out / "cases" / f"c{i}"
        folder.mkdir(parents=True)
        case = {"case_id": f"c{i}", "slides": [{"slide_id": f"s{i}", "folder": f"s{i}"}]}
        (folder / "case.json").write_text(json.dumps(case))
    return out


def reads(folder: Path, scores: list[str] | None = None, cases: int = 12) -> Path:
    path = folder / "READS.csv"
    told = scores or [list(CASES.values())[i % 4] for i in range(cases)]
    rows = [f"c{i},{reader},{s}" for i, s in enumerate(told) for reader in ("r1", "r2")]
    path.write_text("\n".join(["case_id,reader,score", *rows]) + "\n")
    return path


def controls(folder: Path, rows: list[str], head: str = "result,level,receptors,name") -> Path:
    path = folder / "CONTROLS.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def test_reads_become_a_settings_file_that_scores_as_they_read(batch: Path, tmp_path: Path) -> None:
    out = tmp_path / "lab.yaml"
    made = calibrate(Request(reads(tmp_path), batch, draws=50, assay=Assay(clone="4B5")), out)
    tree = yaml.safe_load(out.read_text())
    assert tree == made.tree
    settings = load_settings(out)
    faint, moderate, intense = settings.membrane.cutoffs
    # the classes of these cells lie at 0.15, 0.38 and 0.8
    assert faint < 0.2
    assert 0.12 < moderate < 0.4
    assert 0.35 < intense < 0.85
    assert settings.membrane.calibration == "reads"
    assert settings.calibration.assay.clone == "4B5"
    assert settings.calibration.agreement["exact"] == 1.0
    assert settings.calibration.agreement["exact_cross_validated"] >= 0.8
    limits = settings.calibration.cutoffs_intervals or ()
    for value, (low, high) in zip(settings.membrane.cutoffs, limits, strict=True):
        assert low <= value <= high
    kinds = [s.kind for s in settings.calibration.made_from]
    assert kinds == ["reads", "results"]
    assert all(len(s.sha256) == 64 for s in settings.calibration.made_from)
    assert settings.calibration.date


def test_a_calibration_changes_what_it_should_and_nothing_else(batch: Path, tmp_path: Path) -> None:
    """Cells stay, cut-offs move, regions keep their own settings: no slide is asked for."""
    out = make_run(tmp_path / "next", "two_plus", plane=SMALL, seed=99).out
    before, cells = RunStore(out).settings(), RunStore(out).cells()
    lab = tmp_path / "lab.yaml"
    calibrate(Request(reads(tmp_path), batch, draws=50, assay=Assay(clone="4B5")), lab)
    again = rescore(out, config=lab, changes=["assay.clone=SP3"])
    after, scored = RunStore(out).settings(), RunStore(out).cells()
    assert after.regions == before.regions
    assert after.score == before.score
    assert after.membrane.cutoffs != before.membrane.cutoffs
    assert scored.column_names == cells.column_names
    free = {"pattern", "intensity", "score", "receptors", "region_id"}
    for name in set(cells.column_names) - free:
        assert scored[name].combine_chunks() == cells[name].combine_chunks(), name
    result = again.result
    assert result.stain is not None
    assert result.stain.calibration == "reads"
    assert result.calibration is not None
    assert result.calibration.cutoffs == after.membrane.cutoffs
    codes = {f.code for f in result.qc.flags}
    assert "OTHER_ASSAY" in codes
    assert "UNCALIBRATED_CUTOFFS" not in codes
    # back again: nothing of the calibration stays
    plain = tmp_path / "plain.yaml"
    plain.write_text(Settings().to_yaml())
    back = rescore(out, config=plain, changes=["assay.clone=SP3"]).result
    assert "OTHER_ASSAY" not in {f.code for f in back.qc.flags}
    assert back.receptors is not None
    assert back.receptors.median is None
    assert back.receptors.reason


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (["2+"], "a single case"),
        (["2+"] * 12, "every read is 2\\+"),
        (["0", "1+", "2+", "3+"], "of 4 cases, and 8 are needed"),
        (["0", "1+", "2+"] * 4, "between 2\\+ and 3\\+: 0 cases are read 3\\+ or above"),
        (["3+", "2+", "1+", "0"] * 3, "do not rise with the staining"),
        ([""] * 12, "no read has a score"),
    ],
)
def test_reads_that_carry_nothing_are_refused(
    batch: Path, tmp_path: Path, scores: list[str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        calibrate(Request(reads(tmp_path, scores), batch, draws=50))


def test_reads_of_other_cases_are_refused(batch: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("case_id,reader,score\nx1,a,0\nx2,a,3+\n")
    with pytest.raises(UsageError, match="no case of the reads has a result"):
        calibrate(Request(path, batch))


def test_controls_of_stored_results_give_cut_offs_and_a_curve(
    tmp_path: Path, batch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole slides as controls; the 2+ slide's own moderate cells decide."""
    base = tmp_path / "of"
    monkeypatch.setitem(fake_run.MIXES, "faint", ([0.1, 0.6, 0.3, 0, 0, 0, 0],) * 2)
    levels = {"faint": ("1+", 3e4), "two_plus": ("2+", 1.2e5), "clustered": ("3+", 5e5)}
    for kind in levels:
        make_run(base / kind, kind, plane=SMALL, seed=5)
    path = controls(base, [f"{k},{level},{n:g},{k} line" for k, (level, n) in levels.items()])
    made = calibrate(Request(controls=path))
    assert made.tree["membrane"]["calibration"] == "control"
    cutoffs = made.tree["membrane"]["cutoffs"]
    assert cutoffs == sorted(cutoffs)
    # without a 0 control nothing is said of the noise floor
    assert "score" not in made.tree
    curve = made.tree["calibration"]["curve"]
    assert curve["receptors"] == pytest.approx([3e4, 1.2e5, 5e5])
    names = [s["name"] for s in made.tree["calibration"]["made_from"]]
    assert names[0] == "faint line (row 2)"
    assert all(len(s["sha256"]) == 64 for s in made.tree["calibration"]["made_from"])
    both = calibrate(Request(reads(tmp_path), batch, path, draws=50))
    assert both.tree["membrane"]["calibration"] == "reads"
    assert both.tree["calibration"]["curve"] == curve
    assert "the controls alone would give" in " ".join(both.remarks)


@pytest.mark.parametrize(
    ("rows", "head", "words"),
    [
        (["a,1+"], "name,level", "no column result or slide"),
        (["a,b"], "result,name", "no column level or receptors"),
        (["none,1+"], "result,level", "row 2: none holds no result"),
        (["one,4+"], "result,level", "row 2: level '4\\+' is not 0, 1\\+, 2\\+, 3\\+"),
        (["one,"], "result,level", "row 2: neither level nor receptors"),
        (["one,many"], "result,receptors", "'many' is not a number of receptors"),
        (["one,1+,left"], "result,level,region", "no region 'left'"),
        (["gone.svs,1+"], "slide,level", "the slide 'gone.svs' does not exist"),
        ([], "result,level", "lists no control"),
    ],
)
def test_rows_that_cannot_be_used_are_named(
    tmp_path: Path, rows: list[str], head: str, words: str
) -> None:
    make_run(tmp_path / "one", "low", plane=SMALL)
    with pytest.raises(ManifestError, match=words):
        calibrate(Request(controls=controls(tmp_path, rows, head)))


def test_too_few_controls_are_refused_in_one_line(tmp_path: Path, capsys: Any) -> None:
    make_run(tmp_path / "one", "two_plus", plane=SMALL)
    path = controls(tmp_path, ["one,2+,,"])
    with pytest.raises(SystemExit) as stop:
        main(["calibrate", "--controls", str(path), "-o", str(tmp_path / "x.yaml")])
    assert stop.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("error: there are too few controls: none of 1+, 3+")
    assert not (tmp_path / "x.yaml").exists()


def test_a_region_of_a_result_may_be_the_control(tmp_path: Path) -> None:
    make_run(tmp_path / "one", "clustered", plane=SMALL, spacing_px=40)
    path = controls(tmp_path, ["one,3+,,square 0"], "result,level,name,region")
    with pytest.raises(UsageError, match="too few controls: none of 1\\+, 2\\+"):
        calibrate(Request(controls=path))


def test_nothing_is_overwritten_unasked(tmp_path: Path, batch: Path) -> None:
    out = tmp_path / "lab.yaml"
    out.write_text("mine\n")
    asked = Request(reads(tmp_path), batch, draws=50)
    with pytest.raises(OutputError, match="exists"):
        calibrate(asked, out)
    assert out.read_text() == "mine\n"
    calibrate(asked, out, overwrite=True)
    assert load_settings(out).membrane.calibration == "reads"


def test_there_must_be_something_to_calibrate_from(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to calibrate from"):
        calibrate(Request())
    with pytest.raises(UsageError, match="reads alone"):
        calibrate(Request(reads(tmp_path)))


@pytest.mark.parametrize("hidden", [False, True])
def test_a_manifest_names_the_assay_of_a_slide(tmp_path: Path, hidden: bool) -> None:
    """Another clone is flagged, with names hidden too, and then without the manifest's word."""
    settings = Settings().replace({"calibration.assay": {"clone": "4B5", "scanner": "AT2"}})
    entry = Entry(2, tmp_path, "a", "a", "a", extra={"clone": "SP3", "scanner": "at2"})
    (one,) = hide_names([entry]) if hidden else [entry]
    own = settings_for(one, settings)
    (flag,) = other_assay(own)
    assert flag.code == "OTHER_ASSAY"
    assert "clone" in flag.message
    assert "scanner" not in flag.message
    assert ("SP3" in flag.message) is not hidden
    assert "SP3" not in own.to_yaml() or not hidden
    same = Entry(2, tmp_path, "a", "a", "a", extra={"clone": "4b5"})
    assert other_assay(settings_for(same, settings)) == []
    assert settings_for(same, Settings()).assay.clone == "4b5"


def test_ready_settings_are_found_by_name() -> None:
    settings = load_settings("international_2026")
    assert settings.score.guideline == "international_2026"
