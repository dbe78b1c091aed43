"""Faults on purpose: kills, crashes, hangs, full disks, damaged tiles. Results stay the same."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import tifffile
from cohort_samples import (
    SET_OPTIONS,
    SETTINGS,
    command,
    crash_on_s1,
    differences,
    disk_full_on_s1,
    hang_on_s1,
    linked,
    manifest,
    rows_of,
    run,
    shared_slides,
)
from nights import Nights

from her2path import api
from her2path.core.errors import DiskFull
from her2path.io.store import RunStore
from her2path.outputs import report
from her2path.runs.cohort import BatchOptions, ReportWriters, run_batch

#: as ``--no-report`` has it
PLAIN = ReportWriters(slide=api.write_without_report, index=report.build_index)


def _damage(slide: Path, level: int = 0, share: float = 1 / 3) -> None:
    """Overwrite a share of a level's tiles, in the middle, with noise."""
    with tifffile.TiffFile(slide) as tif:
        page = tif.pages[level]
        spans = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    noise = random.Random(1)
    with slide.open("r+b") as file:
        first, many = len(spans) // 3, max(1, int(len(spans) * share))
        for offset, count in spans[first : first + many]:
            file.seek(offset)
            file.write(noise.randbytes(count))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of slides, with ``out`` beside it: what every disturbed run must give."""
    home = tmp_path_factory.mktemp("undisturbed")
    linked(home / "in", 2)
    run_batch(home / "in", home / "out", SETTINGS, BatchOptions(reports=PLAIN))
    return home


def test_a_crashing_decoder_and_damaged_tiles_cost_two_slides(tmp_path: Path) -> None:
    home = linked(tmp_path / "in", 2)
    shutil.copyfile(shared_slides() / "s2.svs", home / "s9.svs")
    _damage(home / "s9.svs")
    how = BatchOptions(reports=ReportWriters(slide=crash_on_s1))
    result = run_batch(home, tmp_path / "out", SETTINGS, how)
    assert result.exit_code == 3
    assert result.run["counts"]["done"] == 1
    falls = {r["slide"]: r for r in rows_of(tmp_path / "out" / "failures.csv")}
    assert set(falls) == {"s1", "s9"}
    assert "SIGSEGV" in falls["s1"]["error"]
    assert falls["s1"]["stage"] == "reporting"
    assert "cannot be read: tiles are damaged" in falls["s9"]["error"]
    assert [r["slide_id"] for r in rows_of(tmp_path / "out" / "slides.csv")] == ["s0"]
    for name in ("s1", "s9"):
        assert not RunStore(tmp_path / "out" / "slides" / name).complete


def _drawn(name: str, ring: list[list[int]]) -> dict[str, object]:
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"classification": {"name": name}}}  # fmt: skip


def test_what_is_mended_or_left_out_is_flagged(tmp_path: Path) -> None:
    home = linked(tmp_path / "in", 2)
    (home / "s0.svs").unlink()
    shutil.copyfile(shared_slides() / "s0.svs", home / "s0.svs")
    _damage(home / "s0.svs", share=0.1)
    areas = [_drawn("Tumor", [[0, 0], [800, 800], [800, 0], [0, 800], [0, 0]]),
             _drawn("DCIS", [[600, 0], [800, 0], [800, 800], [600, 800], [600, 0]])]  # fmt: skip
    (home / "s1.geojson").write_text(json.dumps(areas))
    path = manifest(home, [{"slide": "s0.svs"}, {"slide": "s1.svs", "annotations": "s1.geojson"}])
    patient = SETTINGS.replace({"slide.max_bad_tissue": 0.5})
    result = run_batch(path, tmp_path / "out", patient, BatchOptions(reports=PLAIN))
    assert result.exit_code == 0
    damaged, drawn = rows_of(tmp_path / "out" / "slides.csv")
    assert "UNREADABLE_TILES" in damaged["flags"]
    assert "ANNOTATIONS_MENDED" in drawn["flags"]
    cells = RunStore(tmp_path / "out" / "slides" / "s1").cells(["x_px", "cell_type"]).to_pylist()
    tumour = [c["x_px"] for c in cells if c["cell_type"] == "tumour"]
    assert len(tumour) > 20
    assert max(tumour) < 600
    assert any(c["x_px"] > 600 for c in cells)


def test_a_full_disk_ends_the_batch_and_the_rest_is_done_later(
    undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    full = BatchOptions(reports=ReportWriters(slide=disk_full_on_s1, index=report.build_index))
    with pytest.raises(DiskFull, match="Make room and run the same command again"):
        run_batch(undisturbed / "in", out, SETTINGS, full)
    assert json.loads((out / "run.json").read_text())["status"] == "stopped"
    assert not RunStore(out / "slides" / "s1").complete
    run_batch(undisturbed / "in", out, SETTINGS, BatchOptions(reports=PLAIN))
    assert differences(undisturbed / "out", out) == []


# -- killed, and begun again -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def nights(undisturbed: Path) -> Iterator[Nights]:
    """Begin batches of the undisturbed slides, at once."""
    with Nights(undisturbed / "in") as made:
        yield made


def _stamps(out: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in out.glob("slides/*/result.json")}


def _kill(pid: int, child: bool) -> bool:
    """Kill a batch or one of its children; tell whether it was alive. None of them is left."""
    try:
        family = psutil.Process(pid).children(recursive=True)
        if child:
            readers = [p for p in family if "resource_tracker" not in " ".join(p.cmdline())]
            for one in readers[:1]:
                one.kill()
            return bool(readers)
        os.kill(pid, signal.SIGKILL)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False
    assert not psutil.wait_procs(family, timeout=20)[1]
    return True


@pytest.mark.timeout(1800)
def test_kill_9_at_20_random_moments_then_resume(
    undisturbed: Path, nights: Nights, tmp_path: Path
) -> None:
    begun = time.monotonic()
    nights.begin(tmp_path / "whole" / "out")
    assert nights.end() == 0
    seconds = time.monotonic() - begun
    assert differences(undisturbed / "out", tmp_path / "whole" / "out") == []
    draw, hit = random.Random(5), 0
    for number in range(60):
        out, child = tmp_path / str(number) / "out", hit % 4 == 3
        pid = nights.begin(out)
        time.sleep(draw.uniform(0, 0.9 * seconds))
        alive = _kill(pid, child)
        code = nights.end()
        assert code in ((0, 3) if child else (0, -signal.SIGKILL))
        if not alive:
            # a moment after the end shows nothing: the machine is faster now than at first
            seconds *= 0.9
            continue
        hit += 1
        done = _stamps(out)
        nights.begin(out)
        assert nights.end() == 0
        assert differences(undisturbed / "out", out) == [], number
        # what was done is not done again
        assert done.items() <= _stamps(out).items()
        shutil.rmtree(out)
        if hit == 20:
            break
    assert hit == 20


def test_parts_that_a_power_loss_cut_short_are_made_again(
    undisturbed: Path, nights: Nights, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    pid = nights.begin(out)
    limit = time.monotonic() + 120
    while not list(out.glob("slides/*/.work/raw/*.arrow"))[1:] and time.monotonic() < limit:
        time.sleep(0.005)
    _kill(pid, child=False)
    assert nights.end() == -signal.SIGKILL
    parts = [p for p in out.glob("slides/*/.work/*/*") if p.suffix in (".arrow", ".npz")]
    assert len(parts) >= 2
    for number, part in enumerate(parts):
        with part.open("r+b") as file:
            file.truncate(part.stat().st_size * (number % 3) // 3)
    nights.begin(out)
    assert nights.end() == 0
    assert differences(undisturbed / "out", out) == []


def _begin(source: Path, out: Path) -> subprocess.Popen[str]:
    words = command("batch", source, "-o", out, "--quiet", "--no-report", *SET_OPTIONS)
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _wait_for(out: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + 200
    while process.poll() is None and not any(out.glob(pattern)):
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_a_second_process_is_refused_and_harms_nothing(undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = _begin(undisturbed / "in", out)
    _wait_for(out, ".lock", first)
    second = run("batch", undisturbed / "in", "-o", out, "--no-report", *SET_OPTIONS)
    assert f"is being written by process {first.pid} on" in second.stderr
    _, said = first.communicate(timeout=240)
    assert first.returncode == 0, said
    single = run("score", undisturbed / "in" / "s0.svs", "-o", out, *SET_OPTIONS)
    assert "holds a batch" in single.stderr
    for refused in (second, single):
        assert refused.returncode == 2, refused.stderr
        assert refused.stderr.count("\n") == 1
    assert differences(undisturbed / "out", out) == []


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_program_killed_at_10_random_moments(undisturbed: Path, tmp_path: Path) -> None:
    draw, alive = random.Random(6), 0
    for number in range(10):
        out = tmp_path / str(number) / "out"
        process = _begin(undisturbed / "in", out)
        _wait_for(out, "slides/*/.work/*", process)
        time.sleep(draw.uniform(0, 2))
        if process.poll() is None:
            alive += _kill(process.pid, child=number % 4 == 3)
        process.communicate(timeout=240)
        again = run("batch", undisturbed / "in", "-o", out, "--no-report", *SET_OPTIONS)
        assert again.returncode == 0, again.stderr
        assert "Traceback" not in again.stderr
        assert differences(undisturbed / "out", out) == []
    # a moment after the end would show nothing
    assert alive >= 6


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hang_costs_one_slide(tmp_path: Path) -> None:
    home = linked(tmp_path / "in", 3)
    limited = SETTINGS.replace({"stream.timeout_s": 45})
    result = run_batch(
        home, tmp_path / "out", limited, BatchOptions(reports=ReportWriters(slide=hang_on_s1))
    )
    assert result.run["counts"]["done"] == 2
    (fall,) = rows_of(tmp_path / "out" / "failures.csv")
    assert (fall["slide"], fall["stage"]) == ("s1", "reporting")
    assert "longer than 45 s" in fall["error"]


#: in a mount namespace of its own, so that no right is needed and nothing is left mounted: a disk
#: of 600 KiB, the batch, then the same disk with room, and the batch again
_SMALL_DISK = """
import subprocess, sys
spot, keep, words = sys.argv[1], sys.argv[2], sys.argv[3:]
mount = lambda *o: subprocess.run(["mount", "-t", "tmpfs", *o, "tmpfs", spot], check=True)
mount("-o", "size=600k")
first = subprocess.run(words, stderr=subprocess.PIPE, text=True)
print(first.returncode, first.stderr, sep="\\n")
subprocess.run(["mount", "-o", "remount,size=200m", spot], check=True)
again = subprocess.run(words, stderr=subprocess.PIPE, text=True)
print(again.returncode, again.stderr, sep="\\n")
subprocess.run(["cp", "-r", spot + "/out", keep], check=True)
"""


def _why_no_disk() -> str | None:
    """Return why no small disk can be had here; None where it can."""
    words = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as exc:
        return str(exc)
    return None if done.returncode == 0 else done.stderr.strip()


@pytest.mark.skipif(_why_no_disk() is not None, reason=f"no tmpfs: {_why_no_disk()}")
@pytest.mark.timeout(900)
def test_a_really_full_disk(undisturbed: Path, tmp_path: Path) -> None:
    spot, keep = tmp_path / "disk", tmp_path / "keep"
    spot.mkdir()
    keep.mkdir()
    words = command("batch", undisturbed / "in", "-o", spot / "out", "--no-report", "--quiet",
                    *SET_OPTIONS)  # fmt: skip
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", sys.executable, "-c", _SMALL_DISK,
         os.fspath(spot), os.fspath(keep), *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, error, *_, again, _ = done.stdout.split("\n")[:-1]
    assert first == "5"
    assert error.startswith("error: ")
    assert "Make room" in error
    assert again == "0", done.stdout
    assert differences(undisturbed / "out", keep / "out") == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_gigapixels_stay_within_the_budget(tmp_path: Path) -> None:
    from her2path.phantom import PhantomSpec, make_phantom, write_slide

    spec = PhantomSpec(seed=1, width_um=512, height_um=512, margin_um=20, tumour_share=0.7,
                       nest_um=150)  # fmt: skip
    (tmp_path / "in").mkdir()
    write_slide(make_phantom(spec), tmp_path / "in" / "large.svs", tile_repeat=(22, 22))
    budget = {"stream.memory_mb": 3000, "stream.timeout_s": 3000, "stream.block_px": 4096}
    result = run_batch(tmp_path / "in", tmp_path / "out", SETTINGS.replace(budget))
    assert result.exit_code == 0
    print({k: result.run[k] for k in ("peak_memory_mb", "memory_budget_mb", "seconds")})
    assert result.run["peak_memory_mb"] <= 3000
    stored = RunStore(tmp_path / "out" / "slides" / "large").result().slide
    assert (stored.width_px or 0) * (stored.height_px or 0) >= 2e9


def test_a_worker_of_a_cluster_is_killed(undisturbed: Path, tmp_path: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
                      scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                      host="127.0.0.1") as cluster:  # fmt: skip
        out = tmp_path / "out"
        words = command("batch", undisturbed / "in", "-o", out, "--no-report", "--scheduler",
                        cluster.scheduler_address, *SET_OPTIONS)  # fmt: skip
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        # in the first of two slides: there is work left for certain
        _wait_for(out, "slides/*/.work/raw/*", process)
        assert process.poll() is None
        victims = [w.pid for w in cluster.workers.values() if w.pid]
        os.kill(victims[0], signal.SIGKILL)
        _, text = process.communicate(timeout=240)
    assert process.returncode == 0, text
    assert differences(undisturbed / "out", out) == []


def test_a_path_that_a_worker_cannot_see_is_found_first(tmp_path: Path) -> None:
    from distributed import LocalCluster

    home = linked(tmp_path / "in", 1)
    script = tmp_path / "hide.py"
    # as on a machine where the slides' disk is not mounted
    script.write_text(
        "from pathlib import Path\nreal = Path.exists\ndef dask_setup(worker):\n"
        "    Path.exists = lambda p: 's0.svs' not in str(p) and real(p)\n"
    )
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None,
                      host="127.0.0.1", preload=[os.fspath(script)]) as cluster:  # fmt: skip
        done = run("batch", home, "-o", tmp_path / "out", "--scheduler",
                   cluster.scheduler_address, *SET_OPTIONS)  # fmt: skip
    assert done.returncode == 3
    assert done.stderr.startswith("error: the worker tcp://127.0.0.1:")
    assert "s0.svs" in done.stderr
    assert not any((tmp_path / "out" / "slides").iterdir())
