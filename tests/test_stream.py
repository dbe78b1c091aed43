"""Motion: threads, and a real cluster of processes that lose workers."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import LocalCluster

from her2path.core.errors import DiskFull, InputError, ManifestError, UsageError, WorkerCannotSee
from her2path.runs import stream as module
from her2path.runs.stream import Stream


def add(offset: int, item: int) -> int:
    time.sleep(0.002 * (item % 3))
    return offset + item


def thread_name(item: int) -> str:
    time.sleep(0.02)
    return threading.current_thread().name


def fail(item: int) -> int:
    if item == 3:
        raise ManifestError("item 3 is wrong", "Mend it")
    return item


def full(item: int) -> int:
    raise OSError(errno.ENOSPC, "No space left on device", f"/out/{item}")


def process(item: int) -> int:
    time.sleep(0.01)
    return os.getpid()


def die_once(folder: str, item: int) -> int:
    """End the worker under the task, the first time that it is tried."""
    mark = Path(folder) / str(item)
    if item % 10 == 4 and not mark.exists():
        mark.write_text("died here")
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item


def die_always(item: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_threads_keep_the_order_of_the_items() -> None:
    heard: list[int] = []
    with Stream(3) as stream:
        out = stream.each(add, range(50), (100,), heard.append)
    assert out == [100 + i for i in range(50)]
    assert sorted(heard) == out
    assert stream.each(add, [], (1,)) == []


@pytest.mark.parametrize("workers", [1, 4])
def test_as_many_threads_as_asked_for(workers: int) -> None:
    with Stream(workers) as stream:
        assert len(set(stream.each(thread_name, range(24)))) == workers


def test_errors_come_through_and_a_full_disk_is_named() -> None:
    with Stream(2) as stream:
        with pytest.raises(ManifestError, match="item 3"):
            stream.each(fail, range(6))
        with pytest.raises(DiskFull, match="/out/"):
            stream.each(full, range(2))


def test_no_scheduler_is_one_line() -> None:
    with pytest.raises(InputError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:9"):
        Stream(1, "tcp://127.0.0.1:9")


def test_tls_without_certificates_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"asks for TLS, and no certificates"):
        Stream(1, "tls://127.0.0.1:9")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
                      scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                      host="127.0.0.1") as made:  # fmt: skip
        yield made


def test_cluster_gives_the_same_as_threads(cluster: LocalCluster) -> None:
    heard: list[int] = []
    with Stream(0, cluster.scheduler_address) as stream:
        assert stream.workers == 2
        assert stream.each(add, range(40), (7,), heard.append) == [7 + i for i in range(40)]
        assert sorted(heard) == [7 + i for i in range(40)]
        pids = set(stream.each(process, range(20)))
        assert os.getpid() not in pids
        with pytest.raises(ManifestError, match="item 3"):
            stream.each(fail, range(6))
        with pytest.raises(DiskFull):
            stream.each(full, range(2))


def test_paths_are_proved(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "slide.svs").write_text("x")
    with Stream(0, cluster.scheduler_address) as stream:
        stream.prove_paths([tmp_path / "slide.svs"], tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["slide.svs"]
        with pytest.raises(WorkerCannotSee, match=r"the worker tcp.* cannot use .*nowhere"):
            stream.prove_paths([tmp_path / "nowhere.svs"], tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["slide.svs"]


def test_workers_that_die_cost_nothing(cluster: LocalCluster, tmp_path: Path) -> None:
    with Stream(0, cluster.scheduler_address) as stream:
        out = stream.each(die_once, range(30), (os.fspath(tmp_path),))
    assert out == [i * i for i in range(30)]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_task_that_kills_every_worker_ends(cluster: LocalCluster) -> None:
    with Stream(0, cluster.scheduler_address) as stream, pytest.raises(InputError, match="workers"):
        stream.each(die_always, range(1))


def test_retries_are_bounded() -> None:
    assert 1 <= module.RETRIES <= 10
