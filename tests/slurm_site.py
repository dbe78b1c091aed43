"""A SLURM of one machine, for as long as a test takes: munged, slurmctld and slurmd.

Everything lies in one folder, on ports of its own; a SLURM that the machine has is not touched.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

NEEDED = ("sbatch", "slurmctld", "slurmd", "munged")
_CONF = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge.sock
SlurmctldPort={ctld}
SlurmdPort={slurmd}
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=3600
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 Sockets=1 CoresPerSocket=8 RealMemory=16000 State=UNKNOWN
PartitionName=normal Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def reason_against() -> str | None:
    """Return why there can be no SLURM here; None where there can."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: slurm-wlm)"
    return None if os.geteuid() == 0 else "its daemons want to be root"


@contextmanager
def slurm(home: Path) -> Iterator[dict[str, str]]:
    """Run a SLURM; yield the environment in which ``sbatch`` finds it."""
    for name in ("state", "spool"):
        (home / name).mkdir(parents=True)
    (home / "munge.key").write_bytes(os.urandom(1024))
    (home / "munge.key").chmod(0o600)
    host = socket.gethostname().split(".")[0]
    conf = home / "slurm.conf"
    conf.write_text(_CONF.format(host=host, home=home, ctld=_free_port(), slurmd=_free_port()))
    env = {**os.environ, "SLURM_CONF": os.fspath(conf)}
    files = {"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munge.pid",
             "seed-file": "munge.seed", "log-file": "munge.log"}  # fmt: skip
    munged = ["munged", "--force", "--foreground", *(f"--{k}={home / v}" for k, v in files.items())]
    with ExitStack() as stack:
        for words in (munged, ["slurmctld", "-D", "-c"], ["slurmd", "-D"]):
            stack.enter_context(_daemon(words, env, home / f"{words[0]}.out"))
            _wait(lambda: (home / "munge.sock").exists())
        _wait(lambda: "idle" in _said(env, "sinfo", "--noheader", "--format=%t"))
        yield env
        _said(env, "scancel", "--user=root")


@contextmanager
def _daemon(words: list[str], env: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(words, env=env, stdout=out, stderr=out)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _said(env: dict[str, str], *words: str) -> str:
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def wait_for_jobs(env: dict[str, str], seconds: float = 300) -> None:
    """Wait until no job is waiting or running."""
    _wait(lambda: _said(env, "squeue", "--noheader") == "", seconds)


def _wait(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "SLURM did not do as it should"
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
