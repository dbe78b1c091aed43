"""The scripts build on one another: each must still find what it takes from the others."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scripts.evaluate.file_map import PAGE, file_map

pytest.importorskip("torch")
ROOT = Path(__file__).parents[1]
MODULES = sorted(p for p in (ROOT / "scripts").rglob("*.py") if p.name != "__init__.py")


def test_every_script_can_be_imported() -> None:
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in MODULES]
    assert "scripts.evaluate.reads" in names
    code = f"import importlib\nfor name in {names}: importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_names_every_script() -> None:
    text = (ROOT / "scripts" / "README.md").read_text(encoding="utf-8")
    named = {p.relative_to(ROOT / "scripts").as_posix() for p in MODULES}
    assert set(re.findall(r"^\| `([a-z_]+/[a-z_]+\.py)`", text, re.MULTILINE)) == named


def test_the_map_of_the_code_is_of_this_code() -> None:
    """Anew: ``python -m scripts.evaluate.file_map``."""
    assert file_map(ROOT / "her2path") in PAGE.read_text(encoding="utf-8")


def test_points_in_one_nucleus_are_one_nucleus() -> None:
    from scripts.fit.read_fields import one_nucleus_each

    both, no = [{"kind": "tumour"}, {"kind": "other"}], [{"kind": "nothing"}, {"kind": "nothing"}]
    at = np.array([[0.0, 0.0], [3.0, 0.0], [9.0, 0.0], [9.0, 1.0], [20.0, 0.0]])
    places, voices = one_nucleus_each(at, [both, both, both, no, both])
    np.testing.assert_allclose(places, [[1.5, 0.0], [9.0, 0.0], [9.0, 1.0], [20.0, 0.0]])
    assert voices == [both, both, no, both]
    # three in a row: the middle one's joined place is too far from the third
    places, _ = one_nucleus_each(np.array([[0.0, 0.0], [3.0, 0.0], [6.2, 0.0]]), [both] * 3)
    np.testing.assert_allclose(places, [[1.5, 0.0], [6.2, 0.0]])


def test_pictures_are_made_anew_after_a_change_of_any_generator(tmp_path: Path) -> None:
    import scripts.phantoms
    from scripts.fit.reading import key_of

    whole = key_of(scripts.phantoms)
    assert whole == key_of(scripts.phantoms)
    assert whole != key_of(scripts.phantoms, MODULES[0])
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "reads.csv").write_text(folder)
    assert key_of(tmp_path / "a" / "reads.csv") != key_of(tmp_path / "b" / "reads.csv")


@pytest.mark.parametrize("module", ["her2path", "her2path.cli"])
def test_both_ways_to_run_the_program_are_one(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "her2path"
