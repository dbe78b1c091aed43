"""One writer at a time: refusal, stale locks, heartbeats."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from her2path.core.errors import OutputError
from her2path.io.store import RunLock
from her2path.io.store import lock as lock_module
from her2path.io.store.files import STALE_S, atomic_file, clear_leftovers


def write_lock(out: Path, **changes: object) -> Path:
    me = psutil.Process()
    holder = {
        "host": socket.gethostname(),
        "pid": me.pid,
        "started": me.create_time(),
        "token": "x",
    }
    path = out / ".lock"
    path.write_text(json.dumps(holder | changes))
    return path


def test_a_lock_is_there_and_goes(tmp_path: Path) -> None:
    with RunLock(tmp_path / "run") as lock:
        assert json.loads(lock.path.read_text())["pid"] == os.getpid()
    assert list((tmp_path / "run").iterdir()) == []


def test_a_second_process_is_refused_by_name(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, time; from her2path.io.store import RunLock\n"
        "with RunLock(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=env,
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(OutputError, match=f"process {other.pid} on"), RunLock(tmp_path):
            pass
        other.kill()
        other.wait()
        with RunLock(tmp_path) as lock:  # its process is gone: stale at once
            assert json.loads(lock.path.read_text())["pid"] == os.getpid()
    finally:
        other.kill()
        other.communicate()


def test_a_reused_process_number_is_stale(tmp_path: Path) -> None:
    write_lock(tmp_path, started=1.0)
    with RunLock(tmp_path):
        pass


def test_another_host_is_believed_for_five_minutes(tmp_path: Path) -> None:
    path = write_lock(tmp_path, host="elsewhere", pid=1)
    with pytest.raises(OutputError, match="process 1 on elsewhere"), RunLock(tmp_path):
        pass
    old = time.time() - STALE_S - 5
    os.utime(path, (old, old))
    with RunLock(tmp_path):
        pass


def test_an_unreadable_lock_is_respected_while_fresh(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("{half")
    with pytest.raises(OutputError, match="another process"), RunLock(tmp_path):
        pass


def test_the_heartbeat_beats_and_notices_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "HEARTBEAT_S", 0.05)
    with RunLock(tmp_path) as lock:
        os.utime(lock.path, (1.0, 1.0))
        _wait(lambda: lock.path.stat().st_mtime > 1.0)
        write_lock(tmp_path, token="thief")
        _wait(lambda: lock.lost)
    assert (tmp_path / ".lock").exists()  # not ours any more: left alone


def _wait(condition, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_a_killed_writer_left_goes_with_the_next_lock(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from her2path.io.store import atomic_dir, atomic_file\n"
        "out = pathlib.Path(sys.argv[1])\n"
        "with atomic_file(out / 'cases.csv') as a, atomic_dir(out / 'maps') as b:\n"
        "    a.write_text('half'); (b / 'one').write_text('half'); os.kill(os.getpid(), 9)"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=env, check=False)
    assert done.returncode == -9
    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / ".notes.tmp").write_text("somebody's own")
    with RunLock(tmp_path):
        assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", ".notes.tmp"]


def test_what_a_living_writer_has_begun_stays(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a.csv") as half:
        half.write_text("half")
        clear_leftovers(tmp_path)
        assert half.exists()
        # one of the same number that ended before this process was born
        os.utime(half, (1.0, 1.0))
        clear_leftovers(tmp_path)
        assert not half.exists()
        half.write_text("whole")
    assert (tmp_path / "a.csv").read_text() == "whole"


def test_a_temporary_file_of_another_host_is_believed_for_five_minutes(tmp_path: Path) -> None:
    half = tmp_path / ".a.csv.1@elsewhere.tmp"
    half.write_text("half")
    clear_leftovers(tmp_path)
    assert half.exists()
    old = time.time() - STALE_S - 5
    os.utime(half, (old, old))
    clear_leftovers(tmp_path)
    assert not half.exists()
