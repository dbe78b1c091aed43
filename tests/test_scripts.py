"""The scripts build on one another: each must still find what it takes from the others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
SCRIPTS = Path(__file__).parents[1] / "scripts"


def test_every_script_can_be_imported() -> None:
    names = sorted(p.stem for p in SCRIPTS.glob("*.py"))
    assert "evaluate" in names
    code = f"import importlib\nfor name in {names}: importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
