"""The pool: whatever a child does, it costs one job."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from cohort_samples import Act

from her2path.runs.cohort import pool as pool_module
from her2path.runs.cohort.child import Job
from her2path.runs.cohort.pool import Budget, Outcome, Pool


def _run(
    acts: list[Act],
    workers: int = 2,
    memory_mb: float = 8000,
    timeout_s: float = 60,
    quiet: bool = True,
) -> tuple[dict[int, Outcome], Pool]:
    told = []
    with Pool(Budget(workers, memory_mb, timeout_s), lambda *a: told.append(a), quiet) as pool:
        out = {o.index: o for o in pool.run([Job(i, a) for i, a in enumerate(acts)])}
    assert all(len(t) == 5 for t in told)
    return out, pool


def test_bad_jobs_cost_themselves_alone() -> None:
    acts = [
        Act("fine", 1),
        Act("segfault"),
        Act("exit"),
        Act("raise"),
        Act("fine", 2),
        Act("full"),
        Act("fine", 3),
    ]
    out, _ = _run(acts)
    assert sorted(out) == list(range(7))
    assert [out[i].facts.get("value") for i in (0, 4, 6)] == [1, 2, 3]
    falls = {i: out[i].failure for i in (1, 2, 3, 5)}
    assert "SIGSEGV" in falls[1].error
    assert falls[1].stage == "segfault"
    assert "code 7" in falls[2].error
    assert falls[3].error == "a fault of the program (ZeroDivisionError: nothing to divide)"
    assert "Traceback" in falls[3].trace
    assert falls[5].disk_full
    assert not falls[1].disk_full


def test_a_hang_ends_at_the_limit() -> None:
    begun = time.monotonic()
    out, _ = _run([Act("hang"), Act("fine", 1), Act("fine", 2)], timeout_s=4)
    assert time.monotonic() - begun < 40
    assert "longer than 4 s" in out[0].failure.error
    assert out[1].ok
    assert out[2].ok


def test_memory_is_shared_out_and_a_large_job_gets_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # together they are too much, one after the other they fit
    monkeypatch.setattr(pool_module, "CHILD_MB", 100)
    out, pool = _run([Act("eat", 350), Act("eat", 350), Act("fine", 1)], memory_mb=600)
    assert all(o.ok for o in out.values()), out
    assert pool.peak_mb > 350


@pytest.mark.skipif(sys.platform != "linux", reason="a score that Linux keeps")
def test_where_memory_runs_out_a_child_goes_first() -> None:
    out, _ = _run([Act("oom")])
    assert out[0].facts["value"] > int(Path("/proc/self/oom_score_adj").read_text())


def test_what_is_too_large_even_alone_fails() -> None:
    out, _ = _run([Act("eat", 400), Act("fine", 1)], memory_mb=250)
    assert "250 MiB of memory" in out[0].failure.error
    assert out[1].ok


def test_a_decoder_that_talks_is_not_heard(capfd: pytest.CaptureFixture[str]) -> None:
    _run([Act("noise")])
    captured = capfd.readouterr()
    assert "talks" not in captured.out + captured.err


def test_budget_keeps_the_machine_busy_within_memory() -> None:
    budget = Budget(workers=8, memory_mb=3500, timeout_s=1)
    assert budget.children(100) == 3
    assert budget.children(2) == 2
    assert budget.threads(3) == 1
    assert budget.threads(2) == 2
    assert budget.threads(1) == 6
    assert Budget(8, 100_000, 1).threads(1) == 8
    assert Budget(8, 10, 1).children(5) == 1
    assert Budget(8, 10, 1).threads(1) == 1


_PARENT = """
import sys
sys.path.insert(0, {tests!r})
from cohort_samples import Act
from her2path.runs.cohort.child import Job
from her2path.runs.cohort.pool import Budget, Pool

if __name__ == "__main__":
    with Pool(Budget(2, 8000, 600), lambda *a: print(*a, flush=True)) as pool:
        list(pool.run([Job(0, Act("hang")), Job(1, Act("hang"))]))
"""


def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(_PARENT.format(tests=os.fspath(Path(__file__).parent)))
    words = [sys.executable, os.fspath(script)]
    parent = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        hanging = 0
        while hanging < 2:
            hanging += "hang" in parent.stdout.readline()
        children = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
        parent.wait()
    gone, alive = psutil.wait_procs(children, timeout=20)
    assert len(gone) >= 2
    assert not alive
