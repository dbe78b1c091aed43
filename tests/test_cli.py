"""The command line: instant help, exit codes, one clear line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import her2path
from her2path.cli import main
from her2path.errors import one_line


def call(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run the command line in this process; return exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as left:
        main(args)
    captured = capsys.readouterr()
    return int(left.value.code or 0), captured.out, captured.err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from her2path.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'dask', 'torch', 'numba', 'numpy', 'cv2', 'pyarrow', 'zarr'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_library_import_is_light() -> None:
    code = (
        "import her2path, sys\n"
        "heavy = {'dask', 'torch', 'numba', 'cv2', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_exported_names_exist() -> None:
    for name in her2path.__all__:
        assert getattr(her2path, name) is not None
    with pytest.raises(AttributeError):
        _ = her2path.no_such_name


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["scor"], "No such command"),
        (["score"], "--help"),
        (["score", "x.svs"], "--out"),
        (["score", "x.svs", "-o", "{tmp}/o", "--mpp", "5"], "--mpp"),
        (["score", "x.svs", "-o", "{tmp}/o", "--mpp", "abc"], "--mpp"),
        (["score", "x.svs", "-o", "{tmp}/o", "--set", "score.min_cell=1"], "min_cells"),
        (["score", "x.svs", "-o", "{tmp}/o", "--guideline", "asco_2018"], "asco_cap_2018"),
        (["score", "x.svs", "-o", "{tmp}/o", "-c", "{tmp}/none.yaml"], "cannot be read"),
        (["schema", "cellz"], "cells"),
        (["report", "{tmp}/nothing"], "holds no"),
        (["rescore", "{tmp}/nothing"], "holds no"),
        (["phantom", "-o", "{tmp}/p", "--set", "mpp=99"], "mpp"),
        (["phantom", "-o", "{tmp}/p", "--set", "colour=1"], "colour"),
    ],
)
def test_wrong_usage_is_exit_2_and_one_line(
    args: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call([a.replace("{tmp}", str(tmp_path)) for a in args], capsys)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err


def test_version_and_schema(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(["--version"], capsys)
    assert code == 0
    assert her2path.__version__ in out
    code, out, _ = call(["schema"], capsys)
    assert code == 0
    schemas = json.loads(out)
    assert set(schemas) == {"settings", "result", "cells", "regions", "agreement"}
    for name in ("settings", "result"):
        jsonschema.Draft202012Validator.check_schema(schemas[name])
    assert all(c["meaning"] for c in schemas["cells"] + schemas["regions"])


def test_doctor_says_what_works(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(["doctor", "--json"], capsys)
    rows = {r["name"]: r for r in json.loads(out)}
    assert code == 0
    assert rows["OpenSlide"]["state"] == "ok"
    assert all(r["mend"] for r in rows.values() if r["state"] == "missing")


def test_an_unexpected_fault_is_exit_5(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from her2path.cli import checkup

    def burst() -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(checkup, "checkup", burst)
    code, _, err = call(["doctor"], capsys)
    assert code == 5
    assert err.count("\n") == 1
    assert "--debug" in err


def test_one_line_is_printable() -> None:
    assert one_line("a\n\tb\x07" + "c" * 999, 20) == "a b?" + "c" * 13 + "..."


def test_score_and_batch_take_the_same_options() -> None:
    import typer

    from her2path.cli.app import app

    commands = typer.main.get_command(app).commands
    names = {n: [(p.name, p.opts, p.default) for p in commands[n].params if p.name not in
                 ("slide", "source", "annotations")] for n in ("score", "batch")}  # fmt: skip
    assert names["score"] == names["batch"]
    assert {"config", "changes", "scheduler", "pseudonymise", "debug"} <= {
        name for name, *_ in names["batch"]
    }
