"""Hostile input through the whole program, and ten thousand slides through the tables."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from cohort_samples import SET_OPTIONS, SETTINGS, linked, manifest, rows_of, run, shared_slides
from fake_run import Plane, make_run
from PIL import Image
from slide_samples import write_svs

from her2path import api
from her2path.core.geometry import Box
from her2path.io.slide import SlideRef, open_slide
from her2path.io.store import BatchStore, RunStore
from her2path.outputs import report
from her2path.runs.cohort import BatchOptions, ReportWriters, collect, run_batch
from scripts.bench import batch as bench_batch
from scripts.evaluate import fuzz, mutations


def _fuzzed(count: int, seed: int, folder: Path, limit_s: float) -> None:
    result = fuzz.fuzz(count, seed, folder, limit_s)
    print(result)
    assert result["found"] == []
    assert result["run"] >= count


def test_mutated_inputs(tmp_path: Path) -> None:
    _fuzzed(160, 11, tmp_path, 200)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_two_thousand_mutated_inputs(tmp_path: Path) -> None:
    _fuzzed(2400, 12, tmp_path, 2000)


def test_mutations_are_seeded(tmp_path: Path) -> None:
    import random

    data = b'{"a": [1, 2, 3], "b": "word"}' * 5
    one = [mutations.mutate(data, random.Random(i), text=True) for i in range(40)]
    assert one == [mutations.mutate(data, random.Random(i), text=True) for i in range(40)]
    assert len(set(one)) > 35


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
)


@pytest.mark.parametrize(
    "text",
    ["!!python/object/apply:os.system ['touch pwned']", "slide: !!python/name:os.system", BOMB,
     "- a\n- b", "slide: {mpp: [}", "nonsense: 1", "[" * 5000, "\x00"],
)  # fmt: skip
def test_settings_that_would_do_harm_are_one_line(tmp_path: Path, text: str) -> None:
    from her2path.core.errors import SettingsError
    from her2path.core.settings import load_settings

    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert "\n" not in str(caught.value)
    assert not Path("pwned").exists()


def test_the_command_says_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    linked(tmp_path, 1)
    path = manifest(tmp_path, [{"slide": "s0.svs"}, {"slide": "=cmd()\n../../x.svs"}])
    before = sorted(tmp_path.iterdir())
    done = run("batch", path, "-o", tmp_path / "out", *SET_OPTIONS)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "row" in done.stderr
    assert sorted(tmp_path.iterdir()) == before


# -- what slides carry beside tissue ---------------------------------------------------------------

MAGENTA = (255, 0, 255)


def _with_label(path: Path) -> Path:
    """Write a slide with a label, a macro image, and a name in its free-text fields."""
    with open_slide(SlideRef(str(shared_slides() / "s0.svs"))) as slide:
        w, h = slide.info.width_px, slide.info.height_px
        pixels = slide.read(Box(0, 0, w, h))
    head = f"Aperio Image Library v12.0\n{w}x{h} [0,0 {w}x{h}] (256x256) JPEG/RGB Q=95"
    text = f"{head}|AppMag = 40|MPP = 0.25|Title = DOE^JANE|User = DOE^JANE"
    write_svs(path, pixels, photometric="rgb", description=text)
    for name, kind in {"thumbnail": 0, "label": 1, "macro": 9}.items():
        image = np.full((120, 160, 3), MAGENTA, np.uint8)
        text = f"Aperio Image Library v12.0 \n{name} 160x120|DOE^JANE"
        tifffile.imwrite(path, image, append=True, photometric="rgb", description=text,
                         metadata=None, subfiletype=kind)  # fmt: skip
    return path


def _pictures(out: Path) -> Iterator[np.ndarray]:
    """Yield every picture of an OUT: files, patches, and what is inside reports."""
    for path in out.rglob("*"):
        if path.suffix in (".jpg", ".png"):
            yield np.asarray(Image.open(path).convert("RGB"))
        if path.suffix == ".html":
            for text in re.findall(r"data:image/\w+;base64,([A-Za-z0-9+/=]+)", path.read_text()):
                yield np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))
    for store in BatchStore(out).slides():
        yield from store.gallery().patches


def test_label_macro_and_free_text_are_copied_nowhere(tmp_path: Path) -> None:
    import openslide

    (tmp_path / "in").mkdir()
    path = _with_label(tmp_path / "in" / "case.svs")
    with openslide.OpenSlide(path) as slide:
        assert {"label", "macro"} <= set(slide.associated_images)
        assert "DOE^JANE" in slide.properties["aperio.User"]
    reports = ReportWriters(
        slide=api.write_reports, case=report.build_case, index=report.build_index
    )
    result = run_batch(tmp_path / "in", tmp_path / "out", SETTINGS, BatchOptions(reports=reports))
    assert result.run["counts"]["done"] == 1, (tmp_path / "out" / "failures.csv").read_text()
    seen = 0
    for picture in _pictures(tmp_path / "out"):
        seen += 1
        far = np.abs(picture.astype(int) - MAGENTA).max(axis=-1)
        assert (far < 60).mean() < 0.01
    assert seen > 5
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file():  # three letters of base64 turn up in pictures by chance
            data = re.sub(rb'base64,[^"]+', b"", file.read_bytes())
            assert b"DOE" not in data, file


def test_real_slides_leave_their_free_text_behind(real_data: Path, tmp_path: Path) -> None:
    """An H&E, a fluorescence slide, one without pixel size, one whose pixel size is absurd."""
    how = BatchOptions(reports=ReportWriters(slide=api.write_reports, index=report.build_index))
    result = run_batch(real_data / "slides", tmp_path / "out", SETTINGS, how)
    assert result.exit_code == 3
    done = {r["slide_id"]: r["status"] for r in rows_of(tmp_path / "out" / "slides.csv")}
    assert done["CMU-1-Small-Region"] == "not_evaluable"
    falls = {r["slide"]: r["error"] for r in rows_of(tmp_path / "out" / "failures.csv")}
    assert "does not state its pixel size" in falls["no_mpp_j2k"]
    for file in (tmp_path / "out").rglob("*"):
        # the scanner's user, number and date, as the H&E slide's description has them
        for word in (b"b414003d-95c6", b"CPAPERIOCS", b"12/29/09"):
            assert not file.is_file() or word not in file.read_bytes(), file


def _benched(folder: Path, slides: int, broken: int, sample: int) -> dict[str, float]:
    found = bench_batch.bench(folder, slides, broken, sample, 200.0, SET_OPTIONS)
    print(found)
    assert found["exit_code"] == 3
    assert found["results"] == slides - broken
    assert found["failures"] == broken
    return found


def test_a_batch_with_broken_slides_takes_less_than_single_runs(tmp_path: Path) -> None:
    # processor seconds: what else runs on the machine does not count
    assert _benched(tmp_path, 10, 2, 1)["cpu_ratio"] < 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_slides_with_ten_broken(tmp_path: Path) -> None:
    assert _benched(tmp_path, 200, 10, 10)["ratio"] <= 0.6


# -- many ------------------------------------------------------------------------------------------


def _many(folder: Path, count: int) -> Path:
    """Write ``count`` tiny results: one that is evaluable, in a hundred that are not."""
    small = Plane(1024, 1024)
    good = make_run(folder / "seed" / "good", "two_plus", plane=small)
    silent = make_run(folder / "seed" / "silent", "not_evaluable", plane=small)
    texts = {s: s.result_path.read_text() for s in (good, silent)}
    for number in range(count):
        store = good if number % 100 == 0 else silent
        place = folder / "in" / f"n{number:05d}"
        place.mkdir(parents=True)
        names = ("settings.yaml", "regions.parquet") if store is good else ("settings.yaml",)
        for name in names:
            os.link(store.out / name, place / name)
        if store is good:
            (place / "cells.parquet").mkdir()
            for part in store.cells_path.iterdir():
                os.link(part, place / "cells.parquet" / part.name)
        tree = json.loads(texts[store])
        tree["slide"]["id"] = place.name
        (place / "result.json").write_text(json.dumps(tree))
    return folder / "in"


def _collected(tmp_path: Path, count: int) -> float:
    source = _many(tmp_path, count)
    begun = time.monotonic()
    result = collect([source], tmp_path / "out", reports=ReportWriters(index=report.build_index))
    seconds = time.monotonic() - begun
    assert result.run["counts"]["done"] == count
    assert result.run["counts"]["cases"] == count
    rows = rows_of(tmp_path / "out" / "slides.csv")
    assert [r["slide_id"] for r in rows] == [f"n{i:05d}" for i in range(count)]
    assert [r["case_id"] for r in rows_of(tmp_path / "out" / "cases.csv")] == [
        r["case_id"] for r in rows
    ]
    assert sum(r["status"] == "complete" for r in rows) == -(-count // 100)
    assert RunStore(tmp_path / "out" / "slides" / "n00000").result().slide.id == "n00000"
    return seconds


def test_two_hundred_tiny_results(tmp_path: Path) -> None:
    _collected(tmp_path, 200)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_ten_thousand_tiny_results(tmp_path: Path) -> None:
    seconds = _collected(tmp_path, 10_000)
    assert seconds < 1800
