"""The command line: instant help, exit codes, one clear line."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest

import her2path
from her2path.cli import main
from her2path.core.errors import one_line

ROOT = Path(__file__).parents[1]


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


def test_doctor_names_the_extra_in_full(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Brackets are no markup: ``her2path[cnn]`` reaches the eye whole."""
    from her2path.cli import words

    monkeypatch.setenv("COLUMNS", "160")
    words.print_rows("t", [{"name": "torch", "mend": "pip install 'her2path[cnn]'"}])
    assert "pip install 'her2path[cnn]'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [("width_um=abc", "phantom width_um: "), ("widht_um=9", "no property 'widht_um'. Valid: ")],
)
def test_a_wrong_phantom_is_one_line(
    change: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(["phantom", "-o", str(tmp_path / "p"), "--set", change], capsys)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


def test_the_demos_truth_stands_beside_what_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from her2path.cli.words import print_truth

    pq.write_table(pa.table({"cell_type": ["tumour"] * 4 + ["other"],
                             "pattern": ["none", "intense_complete"] * 2 + ["none"]}),
                   tmp_path / "truth.parquet")  # fmt: skip
    found = SimpleNamespace(fractions={"none": 0.45, "intense_complete": 0.55},
                            counts=SimpleNamespace(tumour=5))  # fmt: skip
    print_truth(tmp_path, SimpleNamespace(result=found))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["none", "50.0%", "45.0%", "-5.0"] in rows
    assert ["intense", "complete", "50.0%", "55.0%", "+5.0"] in rows
    assert ["tumour", "cells", "4", "5"] in rows


def test_one_version_in_one_place() -> None:

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert "version" not in project["project"]
    place = project["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    assert place == "her2path.__version__"
    assert her2path.__version__


def test_what_is_imported_is_declared() -> None:
    """Every package that the program imports on its own account is named in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"],
             *(d for name, ds in project["optional-dependencies"].items() if name != "dev"
               for d in ds)]  # fmt: skip
    declared = {re.split(r"[<>=\[]", d)[0].lower() for d in named}
    known = {"PIL": "pillow", "cv2": "opencv-python-headless", "skimage": "scikit-image",
             "yaml": "pyyaml", "openslide": "openslide-python", "geopandas": "spatialdata",
             "rich": "rich"}  # fmt: skip
    missing = set()
    for path in (ROOT / "her2path").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else (
                    [node.module or ""]
                    if isinstance(node, ast.ImportFrom) and not node.level
                    else []
                )
            )
            for name in (n.split(".")[0] for n in names):
                if name in sys.stdlib_module_names or name == "her2path":
                    continue
                if known.get(name, name).lower() not in declared:
                    missing.add((name, path.name))
    assert not missing
