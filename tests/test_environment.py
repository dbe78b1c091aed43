"""Whatever shell, user and file system there is: it works, or one line says what to do."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

import her2path
from her2path.core import _folders
from her2path.core.errors import OutputError, actual, one_line, shown
from her2path.io.store import BatchStore, RunStore
from her2path.runs.stream import Stream

ROOT = str(Path(her2path.__file__).parents[1])
NAME = "\u65e5\u672c \U0001f9ec"
COUNTS = f"case_id,area_id,cells,mean_her2,ratio\n{NAME},1,40,7.5,3.2\n"
COMMAND = [sys.executable, "-c", "from her2path.cli import main; main()"]


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    (tmp_path / "c.csv").write_text(COUNTS, encoding="utf-8")
    return tmp_path / "c.csv"


def ish(counts: Path, *args: str, shell: str = "", **variables: str) -> subprocess.CompletedProcess:
    """Interpret counts in a process of its own, whose output a shell directs."""
    given = [*COMMAND, "ish", str(counts), "-o", str(counts.parent / "out"), *args]
    env = {**os.environ, "PYTHONPATH": ROOT, **variables}
    if shell:
        given = ["bash", "-c", f'"$@" {shell}', "bash", *given]
    return subprocess.run(given, capture_output=True, env=env, timeout=200, check=False)


@pytest.mark.parametrize("shell", [
    "<&- >&- 2>&-", ">/dev/full 2>&1", "</dev/null 1<&0", "> >(true)",
])  # fmt: skip
def test_nobody_listens(counts: Path, shell: str) -> None:
    done = ish(counts, shell=shell)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert (counts.parent / "out" / "ish.json").is_file()


@pytest.mark.parametrize(("shell", "code", "words"), [
    (">/dev/full", 5, b"could not be written to stdout (No space left"),
    ("</dev/null 1<&0", 2, b"could not be written to stdout (Bad file"),
    (">&-", 0, b""),
])  # fmt: skip
def test_json_that_cannot_be_written(counts: Path, shell: str, code: int, words: bytes) -> None:
    done = ish(counts, "--json", shell=shell)
    assert done.returncode == code
    assert words in done.stderr
    assert done.stderr.count(b"\n") == bool(words)


@pytest.mark.parametrize("shell", ["2>&-", "2>/dev/full", ">&- 2>&-"])
def test_an_error_that_nobody_hears_keeps_its_code(tmp_path: Path, shell: str) -> None:
    done = ish(tmp_path / "none.csv", shell=shell)
    assert done.returncode == 2
    assert done.stdout == b""


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_terminals_of_other_character_sets(counts: Path, encoding: str) -> None:
    told = ish(counts, "--json", PYTHONIOENCODING=encoding)
    assert told.returncode == 0
    assert json.loads(told.stdout.decode(encoding))["cases"][0]["case_id"] == NAME
    assert ish(counts, PYTHONIOENCODING=encoding).returncode == 0


def test_empty_paths_are_not_the_working_folder(counts: Path) -> None:
    for given in (["ish", str(counts), "-o", ""], ["ish", "", "-o", "x"], ["score", "a", "-o", " "],
                  ["batch", str(counts), "-o", ""], ["export", "", "--to", "csv"],
                  ["agree", "", "-o", "x"], ["agree", "-o", "x", "--results", ""]):  # fmt: skip
        done = subprocess.run(
            [*COMMAND, *given], capture_output=True, timeout=200, check=False, cwd=counts.parent,
            env={**os.environ, "PYTHONPATH": ROOT},
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr.startswith(b"error: a path is empty. ")
    assert [p.name for p in counts.parent.iterdir()] == ["c.csv"]
    for store in (RunStore, BatchStore):
        with pytest.raises(OutputError, match="empty"):
            store("")


def test_names_that_are_not_unicode(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.svs")
    assert shown(name) == f"{tmp_path}/caf\\xe9.svs"
    assert one_line(name) == shown(name)
    assert actual(shown(name)) == shown(name)
    Path(name).write_bytes(b"x")
    assert actual(shown(name)) == name
    assert shown("caf\u00e9.svs") == "caf\u00e9.svs"
    assert shown("\ud800") == "\\ud800"
    with pytest.raises(OutputError, match=r"caf\\xe9.* is not UTF-8"):
        RunStore(name)


def test_a_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_folders.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = _folders.private_folder()
    assert folder == tmp_path / f"her2path-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)  # anybody may have put code there
    monkeypatch.setattr(_folders.tempfile, "mkdtemp", lambda prefix: str(tmp_path / "own"))
    assert _folders.private_folder() == tmp_path / "own"


@pytest.mark.parametrize(("writable", "named"), [(False, True), (True, False)])
def test_kernels_have_a_place(tmp_path, monkeypatch, writable: bool, named: bool) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("MPLCONFIGDIR", "mine")
    monkeypatch.setattr(_folders.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(_folders, "_can_write", lambda folder: writable)
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    _folders.settle()
    assert ("NUMBA_CACHE_DIR" in os.environ) is named
    assert os.environ["MPLCONFIGDIR"] == "mine"
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)


def test_no_place_at_all_is_one_line(tmp_path: Path) -> None:
    code = "from her2path.cli.app import _fault; raise SystemExit(_fault(RuntimeError('cannot " \
           "cache function: no locator available for file')))"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=100,
                          check=False, env={**os.environ, "PYTHONPATH": ROOT})  # fmt: skip
    assert done.returncode == 2
    assert b"NUMBA_CACHE_DIR" in done.stderr


def _double(value: int) -> int:
    return 2 * value


def _in_a_child(_: int) -> list[int]:
    with Stream(2) as stream:
        return stream.each(_double, [1, 2, 3])


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_after_use_works() -> None:
    assert _in_a_child(0) == [2, 4, 6]
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(_in_a_child, (0,)).get(60) == [2, 4, 6]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_stream_that_is_forked_takes_new_threads() -> None:
    with Stream(2) as stream:
        assert stream.each(_double, [1]) == [2]
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply_async(_in_a_child, (0,)).get(60) == [2, 4, 6]
        assert stream.each(_double, [3]) == [6]
