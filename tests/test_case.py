"""The main job: one slide in, a whole result out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import her2path as h2
from her2path.cells import analysis
from her2path.core.errors import MppMissing, OutputError, SlideUnreadable
from her2path.core.geometry import Box, Grid
from her2path.core.schema import PATTERNS
from her2path.core.settings import Settings
from her2path.io.store import RunStore
from her2path.phantom import PhantomSpec, make_phantom, write_slide
from her2path.runs.case import RunOptions, passes
from her2path.runs.case.plan import Plan
from her2path.runs.case.score import score_slide

SMALL = Settings().replace(
    {
        "score.min_cells": 20,
        "regions.size_um": 120.0,
        "heterogeneity.permutations": 99,
        "score.bootstrap_draws": 50,
        "heterogeneity.biopsy_draws": 20,
        "stream.workers": 2,
    }
)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = PhantomSpec(
        seed=5,
        width_um=360.0,
        height_um=300.0,
        mpp=0.25,
        layout="clustered",
        mixture={"intense_complete": 0.7, "none": 0.3},
        second={"none": 1.0},
        second_fraction=0.4,
    )
    path = tmp_path_factory.mktemp("slide") / "phantom one.svs"
    write_slide(make_phantom(spec), path)
    return path


@pytest.fixture(scope="module")
def scored(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return score_slide(slide, tmp_path_factory.mktemp("out") / "a", SMALL)


def table_bytes(out: Path) -> bytes:
    """Return the cell table, sorted by identity, as bytes."""
    table = RunStore(out).cells()
    table = table.sort_by("cell_id").combine_chunks().unify_dictionaries()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1 << 20)
    return bytes(sink.getvalue())


def test_blocks_are_read_two_columns_at_a_time() -> None:
    grid = Grid(5000, 3000, 1000, 64)
    there = tuple(i for i in range(len(grid)) if i != 7)
    plan: Any = Plan(None, None, None, grid, there, None, 1.0, None, 2)  # type: ignore[arg-type]
    order = plan.reading_order
    assert sorted(order) == list(there)
    assert order[:6] == (0, 1, 5, 6, 10, 11)
    assert order[-3:] == (4, 9, 14)


def test_everything_of_the_contract_is_there(scored: Any) -> None:
    names = {p.name for p in scored.out.iterdir()}
    assert {
        "result.json",
        "settings.yaml",
        "cells.parquet",
        "regions.parquet",
        "maps.zarr",
        "gallery.zarr",
        "thumbnail.jpg",
    } <= names
    assert ".work" not in names
    assert sum(1 for p in scored.out.rglob("*") if p.is_file()) <= 100
    result = json.loads((scored.out / "result.json").read_text())
    assert result["status"] == "complete"
    assert set(result["fractions"]) == set(PATTERNS)
    assert sum(result["fractions"].values()) == pytest.approx(1.0)
    assert (
        result["counts"]["tumour"]
        == scored.cells()
        .filter(pa.compute.equal(scored.cells()["cell_type"].cast(pa.string()), "tumour"))
        .num_rows
    )
    assert "IN_SITU_NOT_EXCLUDED" in {f["code"] for f in result["qc"]["flags"]}


def test_the_score_and_h_score_follow_the_cells(scored: Any) -> None:
    cells = scored.cells()
    mine = np.asarray(cells["cell_type"].to_pylist()) == "tumour"
    assert scored.h_score == pytest.approx(100 * cells["intensity"].to_numpy()[mine].mean())
    again = h2.score_cells(cells, guideline="asco_cap_2018")
    assert again.ihc == scored.score.ihc == "3+"


@pytest.mark.parametrize(
    "changes",
    [
        {"stream.block_px": 256},
        {"stream.block_px": 700, "stream.workers": 1},
        {"slide.reader": "openslide"},
        {"slide.cache_mb": 1, "stream.block_px": 512},
    ],
    ids=["small blocks", "odd blocks, one worker", "openslide", "tiny cache"],
)
def test_the_cell_table_is_the_same_bit_for_bit(
    scored: Any, slide: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    score_slide(slide, tmp_path / "b", SMALL.replace(changes))
    assert table_bytes(tmp_path / "b") == table_bytes(scored.out)


def test_the_cell_table_is_the_same_on_a_cluster(scored: Any, slide: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
    ) as cluster:
        options = RunOptions(scheduler=cluster.scheduler_address)
        score_slide(slide, tmp_path / "b", SMALL.replace({"stream.block_px": 512}), options=options)
    assert table_bytes(tmp_path / "b") == table_bytes(scored.out)


def test_a_stopped_run_goes_on(
    scored: Any, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SMALL.replace({"stream.block_px": 512, "stream.workers": 1})
    real, calls = passes.analysis.measure, []

    def stop_after_two(*args: Any) -> Any:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        return real(*args)

    monkeypatch.setattr(passes.analysis, "measure", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        score_slide(slide, tmp_path / "b", settings)
    assert not (tmp_path / "b" / "result.json").exists()
    kept = {p.name for p in (tmp_path / "b" / ".work" / "raw").iterdir() if p.suffix == ".arrow"}
    assert len(kept) == 2
    monkeypatch.setattr(passes.analysis, "measure", real)
    seen: list[str] = []
    original = passes._write_arrow

    def note(path: Path, table: pa.Table) -> None:
        seen.append(path.name)
        original(path, table)

    monkeypatch.setattr(passes, "_write_arrow", note)
    score_slide(slide, tmp_path / "b", settings)
    assert table_bytes(tmp_path / "b") == table_bytes(scored.out)
    raw_again = [n for n in seen if seen.count(n) == 2]
    assert not kept & set(raw_again)


def test_a_complete_result_is_left_and_another_is_refused(
    scored: Any, slide: Path, tmp_path: Path
) -> None:
    before = (scored.out / "result.json").read_bytes()
    # as a run leaves it that was killed while it tidied up
    left = scored.out / ".work" / "maps" / "b0000000_0000000.npz"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"")
    again = score_slide(slide, scored.out, SMALL)
    assert not again.fresh
    assert not left.parents[1].exists()
    other = SMALL.replace({"membrane.complete_at": 0.7})
    with pytest.raises(OutputError, match="--overwrite"):
        score_slide(slide, scored.out, other)
    assert (scored.out / "result.json").read_bytes() == before


def test_overwrite_replaces(slide: Path, tmp_path: Path) -> None:
    first = score_slide(slide, tmp_path / "o", SMALL)
    other = SMALL.replace({"membrane.complete_at": 0.7})
    second = score_slide(slide, tmp_path / "o", other, options=RunOptions(overwrite=True))
    assert first.settings_sha256 != second.settings_sha256
    assert second.result.status == "complete"


def test_settings_of_a_result_give_the_same_result(
    scored: Any, slide: Path, tmp_path: Path
) -> None:
    again = score_slide(slide, tmp_path / "b", scored.out / "settings.yaml")
    a, b = scored.result.as_dict(), again.result.as_dict()
    for tree in (a, b):
        tree.pop("provenance")
    assert a == b


def test_pseudonymised_results_name_nothing(slide: Path, tmp_path: Path) -> None:
    score_slide(slide, tmp_path / "p", SMALL, options=RunOptions(pseudonymise=True))
    for file in (tmp_path / "p").rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert b"phantom one" not in data, file
            assert str(slide.parent).encode() not in data, file


def test_few_cells_are_not_evaluable(slide: Path, tmp_path: Path) -> None:
    result = score_slide(slide, tmp_path / "n", SMALL.replace({"score.min_cells": 100_000})).result
    assert result.status == "not_evaluable"
    assert result.score is result.h_score is result.heterogeneity is None
    assert "FEW_TUMOUR_CELLS" in {f.code for f in result.qc.flags}


def test_a_coarse_slide_is_not_evaluable(slide: Path, tmp_path: Path) -> None:
    settings = SMALL.replace({"slide.mpp": 0.8, "slide.force_mpp": True})
    result = score_slide(slide, tmp_path / "n", settings).result
    assert result.status == "not_evaluable"
    assert result.qc.flags[0].code == "COARSE_MPP"


@pytest.mark.parametrize("content", [b"", b"this is text", b"II*\0" + b"\xff" * 60])
def test_what_is_no_slide_is_refused(tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "bad.svs"
    bad.write_bytes(content)
    with pytest.raises(SlideUnreadable):
        score_slide(bad, tmp_path / "o", SMALL)


def test_a_missing_mpp_names_the_option(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "core.png"), np.full((64, 64, 3), 240, np.uint8))
    with pytest.raises(MppMissing, match="--mpp"):
        score_slide(tmp_path / "core.png", tmp_path / "o", SMALL)


def test_an_empty_slide_has_no_tissue(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "glass.png"), np.full((900, 900, 3), 243, np.uint8))
    result = score_slide(tmp_path / "glass.png", tmp_path / "o", SMALL.replace({"slide.mpp": 0.25}))
    assert result.result.status == "not_evaluable"
    assert {"NO_TISSUE", "NOT_H_DAB"} & {f.code for f in result.result.qc.flags}


@pytest.mark.parametrize(
    ("name", "mpp"),
    [
        ("CMU-1-Small-Region.svs", None),
        ("fluorescence_dapi_40x.ndpi", None),
        ("he_multiframe.dcm", 0.25),
        ("no_mpp_j2k.svs", 0.25),
    ],
)
def test_other_stains_are_refused(
    real_data: Path, tmp_path: Path, name: str, mpp: float | None
) -> None:
    settings = SMALL.replace({"slide.mpp": mpp})
    result = score_slide(real_data / "slides" / name, tmp_path / "o", settings).result
    assert result.status == "not_evaluable"
    assert result.qc.flags[0].code == "NOT_H_DAB"


def test_no_mpp_in_a_real_slide(real_data: Path, tmp_path: Path) -> None:
    with pytest.raises(MppMissing, match="--mpp"):
        score_slide(real_data / "slides" / "no_mpp_j2k.svs", tmp_path / "o", SMALL)


def test_warming_runs_both_passes() -> None:
    from her2path.runs.case import warm

    assert warm.compile_cells() > 20
    assert warm.compile_borders() > 20
    assert warm.compile_tables() == warm.CELLS_ALONG**2


def test_warming_makes_up_the_table_that_pass_1_leaves() -> None:
    # other columns or types, and other kernels would be compiled than a run calls
    from her2path.runs.case import warm

    box = Box(0, 0, 512, 512)
    glass = np.full((512, 512, 3), warm.WHITE, np.uint8)
    optics = warm.drawn_optics(Settings())
    left = analysis.measure(glass, box, box, optics, Settings()).raw.schema
    made = warm.raw_cells().schema
    assert dict(zip(made.names, made.types, strict=True)) == dict(
        zip(left.names, left.types, strict=True)
    )


def test_first_use_says_that_it_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    from her2path.runs.case import warm

    ran, told = [], []

    @contextmanager
    def warming():
        ran.append(len(told))
        yield

    monkeypatch.setattr(warm, "warming", warming)
    monkeypatch.setattr(warm, "cold", lambda: False)
    warm.ready(lambda *words: told.append(words))
    assert not ran
    assert not told
    monkeypatch.setattr(warm, "cold", lambda: True)
    warm.ready(lambda *words: told.append(words))
    # it is said before it begins
    assert ran == [1]
    assert [t[:3] for t in told] == [("compiling, on first use only", 0, 1),
                                     ("compiling, on first use only", 1, 1)]  # fmt: skip


def test_an_empty_cache_is_cold_and_a_filled_one_is_not(tmp_path: Path) -> None:
    code = ("from her2path.runs.case import warm; a = warm.cold(); warm.compile_borders(); "
            "print(a, warm.cold())")  # fmt: skip
    import os
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.split() == ["True", "False"], done.stderr
