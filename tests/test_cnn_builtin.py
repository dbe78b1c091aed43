"""How the shipped model is made: the drawings, and one command that gives one result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from her2path.cells.stain import StainModel, unmix
from her2path.cnn.weights import sha256_of
from her2path.core.schema import PATTERNS
from her2path.phantom import TUMOURS
from scripts.phantoms.generators import GENERATORS

ROOT = Path(__file__).parents[1]

STAIN = StainModel((243.0, 243.0, 242.0), (0.65, 0.70, 0.29), (0.27, 0.57, 0.78))
MAKERS = [(n, s) for n in ("outlined", "patchwork") for s in GENERATORS[n].STYLES]


@pytest.mark.parametrize(("name", "style"), MAKERS)
def test_drawings_are_what_their_truth_says(name: str, style: str) -> None:
    brown, draw = [], GENERATORS[name].draw
    for mixture in ("unstained", "2+", "3+"):
        one = draw(4, style, TUMOURS[mixture], 100.0)
        again = draw(4, style, TUMOURS[mixture], 100.0)
        np.testing.assert_array_equal(one.rgb, again.rgb)
        assert one.truth.equals(again.truth)
        table = one.truth.to_pydict()
        assert set(table["pattern"]) <= set(PATTERNS)
        assert all(0 <= v <= 100 for v in table["x_um"] + table["y_um"])
        assert table["cell_type"].count("tumour") > 20
        if mixture == "unstained":
            assert set(table["pattern"]) == {"none"}
        brown.append(np.maximum(unmix(one.rgb, STAIN)[1], 0).mean())
    assert brown[0] < brown[1] < brown[2]


def test_the_generators_know_nothing_of_each_other() -> None:
    names = {"outlined", "patchwork", "plain"}
    for name in names:
        text = (ROOT / "scripts" / "phantoms" / f"{name}.py").read_text()
        imports = [line for line in text.splitlines() if line.startswith(("import", "from"))]
        assert not any("her2path.phantom" in line for line in imports)
        assert not any(f"phantoms.{n} " in line for line in imports for n in names)
        assert not any(line.startswith("from scripts.phantoms import") for line in imports)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_command_gives_one_model(tmp_path: Path) -> None:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ("a", "b"):
        subprocess.run(
            [sys.executable, "-m", "scripts.fit.cnn", "-o", tmp_path / name, "--phantoms", "4",
             "--drawn", "2", "--epochs", "1", "--evaluate", "0"],
            check=True, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, timeout=400,
        )  # fmt: skip
    one, two = (sha256_of(tmp_path / f"{n}.safetensors") for n in ("a", "b"))
    assert one == two
