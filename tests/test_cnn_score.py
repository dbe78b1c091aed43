"""`score --cnn`: both scores side by side, from the command line to the stored tables."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from cnn_samples import model

from her2path import api, cnn
from her2path.cli.app import _guarded
from her2path.cli.words import print_result
from her2path.core.errors import InputError, OutputError, UsageError
from her2path.core.schema import CNN_CELLS, CNN_REGIONS, SCORES
from her2path.core.settings import Settings
from her2path.io.corrections import Correction
from her2path.io.store import RunStore
from her2path.phantom import TUMOURS, PhantomSpec, make_phantom, write_slide
from her2path.runs.case import RunOptions, SlideResult
from her2path.runs.case.rescore import rescore

SMALL = Settings().replace({
    "score.min_cells": 20, "regions.size_um": 120.0, "regions.min_cells": 20,
    "heterogeneity.permutations": 99, "score.bootstrap_draws": 50,
    "heterogeneity.biopsy_draws": 20, "stream.workers": 1, "cnn.device": "cpu",
})  # fmt: skip
WITH = SMALL.replace({"cnn.model": "builtin", "cnn.features": True})


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = PhantomSpec(
        seed=9, width_um=300.0, height_um=260.0, mpp=0.25, layout="homogeneous",
        mixture=TUMOURS["3+"],
    )  # fmt: skip
    path = tmp_path_factory.mktemp("slide") / "s.svs"
    write_slide(make_phantom(spec), path)
    return path


@pytest.fixture(scope="module")
def plain(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> SlideResult:
    return api.score_slide(slide, tmp_path_factory.mktemp("plain") / "a", SMALL, report=False)


@pytest.fixture(scope="module")
def both(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> SlideResult:
    return api.score_slide(slide, tmp_path_factory.mktemp("both") / "a", WITH)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    model(path)
    return path


def tree(out: Path) -> dict[str, Any]:
    return json.loads((out / "result.json").read_text())


def test_the_rule_based_result_does_not_change(plain: SlideResult, both: SlideResult) -> None:
    a, b = tree(plain.out), tree(both.out)
    for name in ("score", "fractions", "h_score", "heterogeneity", "counts"):
        assert a[name] == b[name]
    assert a["cnn"] is None
    cells = RunStore(both.out).cells()
    assert cells.drop_columns([c.name for c in CNN_CELLS]).equals(RunStore(plain.out).cells())


def test_both_scores_stand_in_every_table(both: SlideResult) -> None:
    told = tree(both.out)["cnn"]
    assert told["score"] in SCORES
    assert sum(told["probability"].values()) == pytest.approx(1.0, abs=1e-3)
    assert told["agrees"] == (told["score"] == both.result.score.ihc)
    flags = [f["code"] for f in tree(both.out)["qc"]["flags"]]
    assert (cnn.DISAGREES in flags) == (not told["agrees"]) == (told["flag"] == cnn.DISAGREES)
    assert told["model"].startswith("builtin")
    sha256 = tree(both.out)["provenance"]["model_sha256"]
    assert sha256 == cnn.check_model("builtin")[1].sha256
    store = RunStore(both.out)
    cells = store.cells(["cell_type", "region_id", *(c.name for c in CNN_CELLS)]).to_pydict()
    tumour = np.array([t == "tumour" for t in cells["cell_type"]])
    p = np.array([cells[c.name] for c in CNN_CELLS], float).T
    assert not np.isnan(p[tumour]).any()
    assert np.isnan(p[~tumour]).all()
    assert (told["cells"], told["patches"]) == ("own", int(tumour.sum()))
    regions = store.regions().to_pydict()
    assert {c.name for c in CNN_REGIONS} <= set(regions)
    seen = [(r, c) for r, c in zip(regions["score"], regions["cnn_score"], strict=True) if r and c]
    assert told["regions"]["compared"] == len(seen) > 0
    assert told["regions"]["same"] == sum(r == c for r, c in seen)


def test_the_terminal_shows_both(both: SlideResult, capsys: pytest.CaptureFixture[str]) -> None:
    print_result(both)
    shown = capsys.readouterr().out
    said = "the same" if both.result.cnn.agrees else "differs"
    assert f"{both.result.cnn.score} by the CNN builtin" in shown
    assert said in shown


def test_features_of_every_region_are_written(both: SlideResult) -> None:
    store = RunStore(both.out)
    found = pq.read_table(store.out / "region_features.parquet")
    assert found["region_id"].to_pylist() == store.regions()["region_id"].to_pylist()
    has = [v is not None for v in store.regions()["cnn_p0"].to_pylist()]
    values = found["features"].to_pylist()
    assert [v is not None for v in values] == has
    assert {len(v) for v in values if v is not None} == {384}
    assert store.features().equals(found)


def test_the_report_says_what_the_network_saw(both: SlideResult) -> None:
    page = (both.out / "report.html").read_text()
    assert "Second look by the neural network" in page
    for field in ("cnn.score", "cnn.agrees", "cnn.regions.same", "cnn.probability.3+"):
        assert f'data-field="{field}"' in page
    assert tree(both.out)["provenance"]["model_sha256"][:12] in page


def test_a_second_run_is_the_same(both: SlideResult, slide: Path, tmp_path: Path) -> None:
    again = api.score_slide(slide, tmp_path / "b", WITH.replace({"cnn.batch": 7}), report=False)
    for name in ("cells.parquet", "regions.parquet", "region_features.parquet"):
        one, two = (pq.read_table(r.out / name) for r in (both, again))
        assert one.column_names == two.column_names
        for column in one.column_names:
            if column.startswith("cnn_p"):
                a, b = (np.array(t[column].to_pylist(), float) for t in (one, two))
                np.testing.assert_allclose(a, b, atol=2e-4)
    assert tree(both.out)["cnn"]["score"] == tree(again.out)["cnn"]["score"]


def test_rescoring_keeps_the_second_look(both: SlideResult, tmp_path: Path) -> None:
    out = Path(shutil.copytree(both.out, tmp_path / "copy"))
    before = tree(out)
    rescore(out)
    after = tree(out)
    assert after["cnn"] == before["cnn"]
    assert after["qc"]["flags"] == before["qc"]["flags"]
    assert RunStore(out).regions().equals(RunStore(both.out).regions())
    assert RunStore(out).features().equals(RunStore(both.out).features())
    # read as unstained by a reader, the rules say 0: the network now differs, and it is said
    made = [
        Correction(i, "none", None, "r", "2026-01-02T03:04:05+00:00").feature(0.0, 0.0)
        for i in RunStore(out).cells(["cell_id"])["cell_id"].to_pylist()
    ]
    file = tmp_path / "c.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": made}))
    rescore(out, guideline="gastric_resection", corrections=file)
    told = tree(out)
    assert told["score"]["ihc"] == "0"
    assert told["cnn"]["score"] == before["cnn"]["score"] != "0"
    assert told["cnn"]["agrees"] is False
    assert cnn.DISAGREES in [f["code"] for f in told["qc"]["flags"]]
    assert "gastric_resection" in told["cnn"]["note"]
    assert told["provenance"]["model_sha256"] == before["provenance"]["model_sha256"]
    # other squares: the cells' own probabilities speak for them
    rescore(out, changes=["regions.size_um=200"])
    assert RunStore(out).regions()["cnn_score"].null_count < RunStore(out).regions().num_rows
    assert not (out / "region_features.parquet").exists()


def test_another_model_is_another_run(slide: Path, trained: Path, tmp_path: Path) -> None:
    settings = SMALL.replace({"cnn.model": str(trained)})
    api.score_slide(slide, tmp_path / "out", settings, report=False)
    assert not api.score_slide(slide, tmp_path / "out", settings, report=False).fresh
    model(trained, seed=1)
    with pytest.raises(OutputError, match="overwrite"):
        api.score_slide(slide, tmp_path / "out", settings, report=False)


def test_a_model_that_does_not_fit_costs_no_time(
    slide: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "her2path.runs.case.score.look", lambda *_: pytest.fail("the slide was read")
    )
    card = trained.with_suffix(".json")
    told = json.loads(card.read_text())
    settings = SMALL.replace({"cnn.model": str(trained)})
    card.write_text(json.dumps({**told, "mpp": 0.15}))
    with pytest.raises(InputError, match="made for 0\\.15"):
        api.score_slide(slide, tmp_path / "a", settings, report=False)
    card.write_text(json.dumps({**told, "normalisation": {"od_range": [0, 1], "scale": 1}}))
    with pytest.raises(InputError, match="made for other input"):
        api.score_slide(slide, tmp_path / "a", settings, report=False)
    card.write_text(json.dumps({**told, "sha256": "0" * 64}))
    with pytest.raises(InputError, match="not those of their card"):
        api.score_slide(slide, tmp_path / "a", settings, report=False)
    card.write_text(json.dumps(told))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no CUDA device"):
        api.score_slide(
            slide, tmp_path / "a", settings.replace({"cnn.device": "cuda"}), report=False
        )
    assert _guarded(["score", str(slide), "-o", str(tmp_path / "a"), "--cnn", "x.pt"], False) == 2


def test_a_batch_does_not_start_with_a_wrong_model(
    slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["batch", str(slide.parent), "-o", str(tmp_path / "o"), "--cnn", "nowhere"]
    assert _guarded(words, False) == 2
    assert "builtin" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_pseudonymised_results_do_not_name_the_model_file(
    slide: Path, trained: Path, tmp_path: Path
) -> None:
    settings = SMALL.replace({"cnn.model": str(trained)})
    told = RunOptions(pseudonymise=True)
    out = api.score_slide(slide, tmp_path / "out", settings, options=told).out
    for path in (p for p in out.rglob("*") if p.suffix in (".json", ".yaml", ".html")):
        assert str(tmp_path) not in path.read_text(), path


# -- without torch ---------------------------------------------------------------------------------

#: as where torch was never installed: no entry in sys.modules, which SciPy takes for torch itself
HIDE = (
    "import sys, importlib.machinery as m; find = m.PathFinder.find_spec; m.PathFinder.find_spec = "
    "classmethod(lambda c, n, p=None, t=None: None if n == 'torch' else find(n, p, t)); "
    "from her2path.cli import main; "
)


def without_torch(*words: object) -> subprocess.CompletedProcess[str]:
    code = f"{HIDE}sys.argv = ['her2path', *{[str(w) for w in words]!r}]; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=280, check=False
    )


def test_without_torch_the_rest_works(
    slide: Path, plain: SlideResult, both: SlideResult, tmp_path: Path
) -> None:
    settings = tmp_path / "s.yaml"
    settings.write_text(SMALL.to_yaml())
    asked = ("score", slide, "-o", tmp_path / "o", "-c", settings, "--no-report", "--quiet")
    done = without_torch(*asked, "--cnn", "builtin")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'her2path[cnn]'" in done.stderr
    done = without_torch(*asked)
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "o")["score"] == tree(plain.out)["score"]
    # what a CNN left behind is read and rescored without it
    out = Path(shutil.copytree(both.out, tmp_path / "copy"))
    done = without_torch("rescore", out, "--guideline", "heracles", "--quiet")
    assert done.returncode == 0, done.stderr
    assert tree(out)["cnn"]["score"] == tree(both.out)["cnn"]["score"]


def test_without_torch_train_and_doctor_say_what_to_install(tmp_path: Path) -> None:
    done = without_torch("train", tmp_path / "m.csv", "-o", tmp_path / "m")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "pip install 'her2path[cnn]'" in done.stderr
    done = without_torch("batch", tmp_path, "-o", tmp_path / "o", "--cnn", "builtin")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "pip install 'her2path[cnn]'" in done.stderr
    done = without_torch("doctor", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    [gpu] = [r for r in rows if r["name"] == "GPU"]
    assert (gpu["state"], gpu["mend"]) == ("missing", "pip install 'her2path[cnn]'")
    [row] = [r for r in rows if r["name"] == "torch"]
    assert (row["state"], row["mend"]) == ("missing", "pip install 'her2path[cnn]'")
