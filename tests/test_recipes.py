"""The recipes of docs/batch.md, run as they stand there: only places and sizes are replaced."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import slurm_site
import yaml
from cohort_samples import SET_OPTIONS, differences, linked, manifest, rows_of, run

DOCS = (Path(__file__).parent.parent / "docs" / "batch.md").read_text(encoding="utf-8")
SCRIPTS = Path(__file__).parent.parent / "scripts" / "pipelines"
#: clusters and workflow managers start slowly where the machine is busy
pytestmark = pytest.mark.timeout(900)
#: the programs of this very environment are found first, as for a user
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def _blocks(heading: str) -> list[str]:
    """Return the code blocks below a heading of the docs."""
    text = DOCS.split(f"\n{heading}\n", 1)[1]
    text = re.split(r"\n#{2,3} ", text, maxsplit=1)[0]
    return re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _wait(condition: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the recipe's certificates and configuration."""
    home = tmp_path_factory.mktemp("secure")
    commands, config = _blocks("### Certificates")
    # a shorter key is made in a second
    small = commands.replace("rsa:4096", "rsa:2048")
    subprocess.run(["bash", "-e", "-c", small], cwd=home, check=True, capture_output=True)
    (home / "her2path.yaml").write_text(config.replace("/secure", os.fspath(home)))
    assert (home / "node.key").stat().st_mode & 0o077 == 0
    return home


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with slides, ``MANIFEST.csv``, and ``out``: the batch of one machine."""
    home = tmp_path_factory.mktemp("alone")
    linked(home, 2)
    (home / "s0.svs").rename(home / "A 1.svs")
    path = manifest(home, [{"slide": "A 1.svs", "case_id": "k"}, {"slide": "s1.svs"}],
                    "MANIFEST.csv")  # fmt: skip
    done = run("batch", path, "-o", home / "out", "--no-report", "--quiet", *SET_OPTIONS)
    assert done.returncode == 0, done.stderr
    return home


def _env(secure: Path) -> dict[str, str]:
    return {**os.environ, "PATH": PATH, "DASK_CONFIG": os.fspath(secure)}


@contextmanager
def _started(words: list[str], env: dict[str, str], log: Path) -> Iterator[psutil.Process]:
    with log.open("wb") as out:
        process = subprocess.Popen(words, env=env, stdout=out, stderr=out)
        try:
            yield psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(port: int, say: bytes) -> bytes:
    """Return what a port answers whoever has no certificate."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
            s.settimeout(5)
            s.sendall(say)
            return s.recv(4096)
    except OSError:
        return b""


def _check_ports(processes: list[psutil.Process]) -> int:
    """Make sure that nothing listens that answers strangers; return how many ports there are."""
    family = [q for p in processes for q in (p, *p.children(recursive=True))]
    open_ports = {(c.laddr.ip, c.laddr.port) for q in family for c in q.net_connections()
                  if c.status == psutil.CONN_LISTEN}  # fmt: skip
    for address, port in open_ports:
        said = _answers(port, b"GET /info/main/workers.html HTTP/1.1\r\nHost: x\r\n\r\n")
        if said.startswith(b"HTTP"):
            # dask's status pages cannot be left out: on loopback alone, and empty
            assert address == "127.0.0.1", (address, port)
            assert said.split(b"\r\n")[0].endswith(b"404 Not Found"), said
            assert (
                _answers(port, b"GET /json/counts.json HTTP/1.1\r\nHost: x\r\n\r\n")
                .split(b"\r\n")[0]
                .endswith(b"404 Not Found")
            )
        else:
            _no_stranger(port)
    return len(open_ports)


def _no_stranger(port: int) -> None:
    """Make sure that nobody comes in without a certificate of the right authority."""
    import ssl

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as s:  # noqa: PT012
        s.settimeout(5)
        with context.wrap_socket(s) as tls:
            # under TLS 1.3 the refusal comes with the first byte that is read
            if not tls.recv(1):
                raise ConnectionResetError


# -- dask with certificates ------------------------------------------------------------------------


def _by_hand(port: int) -> list[list[str]]:
    lines = _blocks("### By hand")[0].strip().splitlines()
    text = [line.replace("10.0.0.1", "127.0.0.1").replace("8786", str(port)) for line in lines]
    words = [line.replace("4GB", "1GB").replace("--nworkers 4", "--nworkers 2").split()
             for line in text]  # fmt: skip
    assert [w[:2] for w in words] == [["dask", "scheduler"], ["dask", "worker"],
                                      ["her2path", "batch"]]  # fmt: skip
    return words


def _manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(_blocks("### Kubernetes")[1]))


def _by_kubernetes(port: int) -> list[list[str]]:
    """Return the containers' commands, the service's name replaced by where it is here."""
    made = {m["metadata"]["name"]: m for m in _manifests() if "template" in m["spec"]}
    commands = [made[f"her2path-{role}"]["spec"]["template"]["spec"]["containers"][0]["command"]
                for role in ("scheduler", "worker", "batch")]  # fmt: skip
    swaps = {"8786": str(port), "4GB": "1GB",
             "tls://her2path-scheduler:8786": f"tls://127.0.0.1:{port}"}  # fmt: skip
    return [[swaps.get(w, w) for w in words] for words in commands]


@pytest.mark.parametrize("recipe", [_by_hand, _by_kubernetes])
def test_a_cluster_with_certificates(
    recipe: Callable[[int], list[list[str]]], secure: Path, alone: Path, tmp_path: Path
) -> None:
    port = _free_port()
    scheduler, worker, batch = recipe(port)
    env = _env(secure)
    with ExitStack() as stack:
        first = stack.enter_context(_started(scheduler, env, tmp_path / "scheduler.log"))
        _wait(lambda: "Scheduler at" in (tmp_path / "scheduler.log").read_text())
        second = stack.enter_context(_started(worker, env, tmp_path / "worker.log"))
        _wait(lambda: "Starting established" in (tmp_path / "worker.log").read_text())
        words = [alone / "MANIFEST.csv" if w.endswith("MANIFEST.csv") else
                 tmp_path / "out" if w.endswith("/OUT") else w for w in batch]  # fmt: skip
        done = subprocess.run(
            [*map(str, words), "--no-report", "--quiet", *SET_OPTIONS],
            env=env, capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert differences(alone / "out", tmp_path / "out") == []
        assert _check_ports([first, second]) >= 4
        # whoever has no certificates is told so in one line
        stranger = subprocess.run(
            [*map(str, words), "--quiet"], capture_output=True, text=True, check=False,
            env={**env, "DASK_CONFIG": os.fspath(tmp_path)}, timeout=120,
        )  # fmt: skip
        assert stranger.returncode == 2
        assert "no certificates are set up" in stranger.stderr


def test_kubernetes_manifests_fit_its_schemas() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    made = _manifests()
    assert [m["kind"] for m in made] == ["Deployment", "Service", "Deployment", "NetworkPolicy",
                                         "Job"]  # fmt: skip
    for one in made:
        validate.validate(one, "1.29", strict=True)
    # what people connect to is what the scheduler listens on; every pod is behind the policy
    pods = [m["spec"]["template"] for m in made if "template" in m["spec"]]
    service = made[1]
    assert service["spec"]["selector"] == pods[0]["metadata"]["labels"]
    command = pods[0]["spec"]["containers"][0]["command"]
    assert command[command.index("--port") + 1] == str(service["spec"]["ports"][0]["port"])
    for pod in pods:
        assert pod["metadata"]["labels"]["app"] == "her2path"
        (container,) = pod["spec"]["containers"]
        mounted = {m["name"] for m in container["volumeMounts"]}
        assert mounted == {v["name"] for v in pod["spec"]["volumes"]}
    for m in made:
        if m["kind"] == "Deployment":
            labels = m["spec"]["template"]["metadata"]["labels"]
            assert m["spec"]["selector"]["matchLabels"] == labels


# -- SLURM -----------------------------------------------------------------------------------------

needs_slurm = pytest.mark.skipif(
    slurm_site.reason_against() is not None, reason=f"no SLURM: {slurm_site.reason_against()}"
)


@pytest.fixture(scope="module")
def cluster_env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run a SLURM of one machine; yield the environment that finds it."""
    with slurm_site.slurm(tmp_path_factory.mktemp("slurm") / "site") as env:
        yield {**env, "PATH": PATH}


def _cluster_script(folder: Path) -> Path:
    """Write the recipe's cluster.py, its jobs small enough for this machine."""
    text = _blocks("### SLURM")[0]
    for old, new in {"cores=8, processes=8": "cores=2, processes=2", '"32GB"': '"2GB"',
                     "jobs=4": "jobs=1"}.items():  # fmt: skip
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = folder / "cluster.py"
    path.write_text(text)
    return path


@needs_slurm
def test_slurm_with_dask_jobqueue(
    cluster_env: dict[str, str], secure: Path, alone: Path, tmp_path: Path
) -> None:
    pytest.importorskip("dask_jobqueue", reason="pip install dask-jobqueue")
    _cluster_script(tmp_path)
    commands = _blocks("### SLURM")[1]
    swaps = {"MANIFEST.csv": f"'{alone}/MANIFEST.csv' --no-report --quiet",
             "/shared/OUT": f"'{tmp_path}/out' {' '.join(SET_OPTIONS)}"}  # fmt: skip
    for old, new in swaps.items():
        assert commands.count(old) == 1
        commands = commands.replace(old, new)
    env = {**cluster_env, "DASK_CONFIG": os.fspath(secure)}
    with subprocess.Popen(["bash", "-e", "-c", commands], env=env, stderr=subprocess.PIPE,
                          text=True, cwd=tmp_path) as shell:  # fmt: skip
        address = tmp_path / "address.txt"
        _wait(lambda: address.exists() and address.read_text().startswith("tls://"))
        _wait(lambda: "R" in _squeue(env))
        below = psutil.Process(shell.pid).children(recursive=True)
        assert _check_ports([p for p in below if "cluster.py" in " ".join(p.cmdline())]) >= 1
        _, said = shell.communicate(timeout=500)
    assert shell.returncode == 0, said
    slurm_site.wait_for_jobs(env, 60)
    assert differences(alone / "out", tmp_path / "out") == []


def _squeue(env: dict[str, str]) -> str:
    words = ["squeue", "--noheader", "--format=%t"]
    return subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout


def test_the_job_that_dask_jobqueue_submits(secure: Path, tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue", reason="pip install dask-jobqueue")
    script = _cluster_script(tmp_path)
    text = script.read_text().replace("cluster.scale(jobs=1)", "print(cluster.job_script())")
    script.write_text(text.replace("signal.pause()", "pass"))
    done = subprocess.run([sys.executable, script], env=_env(secure), capture_output=True,
                          text=True, check=False, cwd=tmp_path, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "#SBATCH -p normal" in done.stdout
    (command,) = [x for x in done.stdout.splitlines() if "dask_worker" in x or "dask worker" in x]
    assert "tls://" in command
    for word in ("--tls-ca-file", "--tls-cert", "--tls-key", "--no-dashboard", "127.0.0.1:0"):
        assert word in command


@needs_slurm
def test_slurm_array_and_collect(cluster_env: dict[str, str], alone: Path, tmp_path: Path) -> None:
    script, commands = _blocks("### SLURM array")
    # the tests' quick settings, on a machine of few processors
    script = script.replace("--quiet", f"--quiet --no-report {' '.join(SET_OPTIONS)}")
    script = script.replace("--cpus-per-task=4 --mem=8G", "--cpus-per-task=2 --mem=2G")
    commands = commands.replace("--mem=8G", "--mem=2G --wait")
    commands = commands.replace("collect OUT/slides", "collect OUT/slides --no-report")
    (tmp_path / "score.sbatch").write_text(script)
    (tmp_path / "MANIFEST.csv").write_text(
        (alone / "MANIFEST.csv").read_text().replace('"A 1', f'"{alone}/A 1').replace(
            '"s1.svs', f'"{alone}/s1.svs')
    )  # fmt: skip
    (tmp_path / "slides.txt").write_text(f"{alone}/A 1.svs\n{alone}/s1.svs\n{alone}/none.svs\n")
    done = subprocess.run(["bash", "-e", "-c", commands], cwd=tmp_path, env=cluster_env,
                          capture_output=True, text=True, check=False, timeout=280)  # fmt: skip
    logs = "".join(p.read_text() for p in tmp_path.glob("slurm-*.out"))
    assert done.returncode == 0, done.stderr + logs
    assert "error: " in logs
    out = tmp_path / "OUT"
    assert [r["slide_id"] for r in rows_of(out / "slides.csv")] == ["A 1", "s1"]
    assert json.loads((out / "run.json").read_text())["status"] == "complete"
    _same_figures(alone / "out", out)


def _same_figures(one: Path, two: Path) -> None:
    """Compare the tables of two batches; folders are named by whoever made them."""
    for name in ("slides.csv", "cases.csv"):
        a, b = ([{k: v for k, v in r.items() if k not in ("folder", "slide")}
                 for r in rows_of(out / name)] for out in (one, two))  # fmt: skip
        assert a == b


# -- workflow managers -----------------------------------------------------------------------------


def _workflow_manifest(alone: Path, folder: Path) -> Path:
    """Write a manifest with annotations, an mpp, and one slide that cannot be read."""
    os.link(alone / "A 1.svs", folder / "A 1.svs")
    os.link(alone / "s1.svs", folder / "s1.svs")
    (folder / "bad.svs").write_bytes(b"no slide")
    ring = [[0, 0], [900, 0], [900, 900], [0, 900], [0, 0]]
    area = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"classification": {"name": "Tumor"}}}  # fmt: skip
    (folder / "s1.geojson").write_text(json.dumps([area]))
    return manifest(folder, [
        {"slide": "A 1.svs", "case_id": "k"},
        {"slide": "s1.svs", "mpp": 0.25, "annotations": "s1.geojson",
         "guideline": "gastric_biopsy"},
        {"slide": "bad.svs"},
    ], "MANIFEST.csv")  # fmt: skip


def _expected(path: Path, tmp_path: Path) -> Path:
    (tmp_path / "settings.yaml").write_text(_settings_text())
    done = run("batch", path, "-o", tmp_path / "expected", "--no-report", "--quiet", "-c",
               tmp_path / "settings.yaml")  # fmt: skip
    assert done.returncode == 3, done.stderr
    return tmp_path / "expected"


def _settings_text() -> str:
    from cohort_samples import SETTINGS

    return SETTINGS.to_yaml()


def _check_workflow(expected: Path, out: Path) -> None:
    _same_figures(expected, out)
    (fall,) = rows_of(out / "failures.csv")
    assert fall["slide"] == "bad"
    rows = {r["slide_id"]: r for r in rows_of(out / "slides.csv")}
    assert rows["s1"]["guideline"] == "gastric_biopsy"


def test_snakemake(alone: Path, tmp_path: Path) -> None:
    snakemake = shutil.which("snakemake") or os.environ.get("HER2PATH_SNAKEMAKE")
    if not snakemake:
        pytest.skip("no snakemake on the PATH, nor in HER2PATH_SNAKEMAKE")
    path = _workflow_manifest(alone, tmp_path)
    expected = _expected(path, tmp_path)
    words = [snakemake, "-s", SCRIPTS / "snakemake" / "Snakefile", "--cores", "2", "--keep-going",
             "--config", f"manifest={path}", f"out={tmp_path / 'out'}",
             f"settings={tmp_path / 'settings.yaml'}"]  # fmt: skip

    def snake() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*map(str, words)], env={**os.environ, "PATH": PATH}, text=True, capture_output=True,
            check=False, cwd=tmp_path, timeout=280,
        )  # fmt: skip

    first = snake()
    assert first.returncode == 1, first.stderr
    _check_workflow(expected, tmp_path / "out")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("slides/*/result.json")}
    assert len(before) == 2
    (tmp_path / "bad.svs").unlink()
    os.link(alone / "s1.svs", tmp_path / "bad.svs")
    again = snake()
    assert again.returncode == 0, again.stderr
    assert len(rows_of(tmp_path / "out" / "slides.csv")) == 3
    assert {p: p.stat().st_mtime_ns for p in before} == before


def _process(name: str) -> str:
    """Return the script block of a Nextflow process."""
    text = (SCRIPTS / "nextflow" / "her2path.nf").read_text()
    body = text.split(f"process {name} {{", 1)[1].split('"""', 2)[1]
    return body.replace("\\\\", "\\").replace("\\$", "$")


def test_the_scripts_of_the_nextflow_processes(alone: Path, tmp_path: Path) -> None:
    """Nextflow itself is not needed: a task is a folder with links to its inputs and a script."""
    path = _workflow_manifest(alone, tmp_path)
    expected = _expected(path, tmp_path)
    rows = [("A_1", {}), ("s1", {"pixel": "--mpp 0.25", "rules": "--guideline gastric_biopsy",
                                 "areas": f"--annotations '{tmp_path}/s1.geojson'"}),
            ("bad", {})]  # fmt: skip
    codes = {}
    for name, options in rows:
        task = tmp_path / f"task-{name}"
        task.mkdir()
        slide = tmp_path / f"{name.replace('_', ' ')}.svs"
        (task / slide.name).symlink_to(slide)
        values = {"slide": shlex.quote(slide.name), "name": name, "task.cpus": "2", "pixel": "",
                  "rules": "", "areas": "", **options,
                  "settings": f"-c '{tmp_path}/settings.yaml'"}  # fmt: skip
        codes[name] = _task(_process("score"), values, task)
    assert codes == {"A_1": 0, "s1": 0, "bad": 1}
    last = tmp_path / "task-collect"
    last.mkdir()
    for name in ("A_1", "s1"):
        (last / name).symlink_to(tmp_path / f"task-{name}" / name)
    values = {"results": "A_1 s1", "manifest": os.fspath(path)}
    assert _task(_process("collect"), values, last) == 0
    _check_workflow(expected, last / "batch")


def _task(script: str, values: dict[str, str], folder: Path) -> int:
    text = re.sub(r"\$\{([\w.]+)\}", lambda m: values[m.group(1)], script)
    done = subprocess.run(["bash", "-ue", "-c", text], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, "PATH": PATH}, check=False, timeout=200)  # fmt: skip
    return done.returncode


def test_nextflow(alone: Path, tmp_path: Path) -> None:
    nextflow = shutil.which("nextflow")
    if not nextflow:
        pytest.skip("no nextflow on the PATH")
    path = _workflow_manifest(alone, tmp_path)
    expected = _expected(path, tmp_path)
    words = [nextflow, "run", SCRIPTS / "nextflow" / "her2path.nf", "--manifest", path, "--out",
             tmp_path / "out", "--settings", tmp_path / "settings.yaml"]  # fmt: skip
    done = subprocess.run([*map(str, words)], env={**os.environ, "PATH": PATH}, text=True,
                          capture_output=True, check=False, cwd=tmp_path, timeout=800)  # fmt: skip
    assert done.returncode == 0, done.stderr
    _check_workflow(expected, tmp_path / "out" / "batch")
