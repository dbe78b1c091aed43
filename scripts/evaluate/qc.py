"""Quality control measured: on drawings with each artefact switched on, and on marked real cores.

python -m scripts.evaluate.qc drawn [SEED ...]
python -m scripts.evaluate.qc real RESULTS_FOLDER      (OUTs of the cores, named after them)

Drawn: share of each artefact's area that is left out (any code), that has its own code, and share
of the clean tissue lost; H-score of the clean tissue's cells with the artefact against without.
Real: the same for the polygons of tests/data/qc/marks.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from her2path.cells import qc
from her2path.core.settings import Settings
from her2path.io.store import RunStore
from her2path.phantom import PhantomSpec, make_phantom
from her2path.phantom.artefacts import ARTEFACTS, COVER_UM, add_artefacts
from her2path.phantom.make import Phantom
from her2path.phantom.write import write_slide
from her2path.runs.case import RunOptions, score_slide

CODE = {
    "folds": "folds", "out_of_focus": "blurry", "pen": "pen_markings", "dust": "dust",
    "tears": "edges", "smudges": "dust", "bubbles": "bubbles", "necrosis": "necrosis",
    "blush_patches": "background", "pale_patches": "pale", "overexposed": "saturation",
    "jpeg_damage": "compression",
}  # fmt: skip
NUMBER = {"dust": 12, "smudges": 3}
SIDE_UM = 700.0
#: artefacts that the tissue mask itself leaves out
MASKED = ("pen", "tears")
SETTINGS = Settings().replace({"stream.workers": 1, "score.min_cells": 50})
BITS = qc.left_out_bits(SETTINGS.qc)


def spec(seed: int) -> PhantomSpec:
    """Return the drawing that every artefact is laid on."""
    return PhantomSpec(seed=seed, width_um=SIDE_UM, height_um=SIDE_UM, mpp=0.25, mixture={
        "moderate_complete": 1, "none": 1, "faint_incomplete": 1,
        "intense_complete": float(seed % 2 == 0)})  # fmt: skip


def scored(phantom: Phantom, folder: Path) -> RunStore:
    """Score a drawing."""
    write_slide(phantom, folder / "a.svs")
    score_slide(folder / "a.svs", folder / "out", SETTINGS, options=RunOptions(overwrite=True))
    return RunStore(folder / "out")


def on_covers(plane: np.ndarray, um: float, shape: tuple[int, int]) -> np.ndarray:
    """Return a map of ``um`` a cell at the points of the truth's masks."""
    at = [np.minimum(((np.arange(n) + 0.5) * COVER_UM / um).astype(int), side - 1)
          for n, side in zip(shape, plane.shape, strict=True)]  # fmt: skip
    return plane[at[0]][:, at[1]]


def judge(store: RunStore, truth: NDArray[np.bool_], name: str) -> tuple[float, float, float]:
    """Return the shares left out, with the right code, and of clean tissue lost."""
    maps = store.maps()
    codes = on_covers(maps.read("qc"), maps.mpp_um(), truth.shape)
    tissue = on_covers(maps.read("tissue"), maps.mpp_um(), truth.shape) > 0
    gone = (codes & BITS) > 0
    own = (codes & qc.CODES[CODE[name]].value) > 0 if name in CODE else gone
    there = truth if name in MASKED else truth & tissue
    caught = gone | ~tissue if name in MASKED else gone
    clean = tissue & ~truth
    share = [float((m & w).sum() / max(1, w.sum()))
             for m, w in ((caught, there), (own, there), (gone, clean))]  # fmt: skip
    return share[0], share[1], share[2]


def clean_h_score(store: RunStore, truth: NDArray[np.bool_]) -> float:
    """Return the H-score of the tumour cells 16 µm and more off the artefact."""
    wide = cv2.dilate(truth.astype(np.uint8), np.ones((17, 17), np.uint8)) > 0
    cells = store.cells(["x_um", "y_um", "intensity", "cell_type"])
    j, i = ((cells[n].to_numpy() / COVER_UM).astype(int) for n in ("y_um", "x_um"))
    j, i = np.clip(j, 0, wide.shape[0] - 1), np.clip(i, 0, wide.shape[1] - 1)
    mine = np.array(cells["cell_type"].to_pylist()) == "tumour"
    return float(100 * cells["intensity"].to_numpy()[mine & ~wide[j, i]].mean())


def drawn(seeds: list[int]) -> None:
    """Print one row an artefact."""
    print("seed artefact left_out own_code clean_lost h_score h_score_without")
    for seed in seeds:
        base = make_phantom(spec(seed))
        with tempfile.TemporaryDirectory() as folder:
            empty = np.zeros(on_shape(), bool)
            plain = scored(base, Path(folder))
            print(seed, "clean", "-", "-", f"{judge(plain, empty, 'clean')[2]:.3f}", flush=True)
            for name in ARTEFACTS:
                image = base.rgb.copy()
                asked = spec(seed).model_copy(update={name: NUMBER.get(name, 1)})
                truth = add_artefacts(asked, image).masks[name] > 0
                made = Phantom(image, base.truth, base.regions, base.areas, base.spec)
                with tempfile.TemporaryDirectory() as other:
                    store = scored(made, Path(other))
                    if store.result().status != "complete":
                        print(seed, name, store.result().qc.flags[0].code, flush=True)
                        continue
                    told = " ".join(f"{v:.3f}" for v in judge(store, truth, name))
                    h = clean_h_score(store, truth), clean_h_score(plain, truth)
                    print(seed, name, told, f"{h[0]:.1f} {h[1]:.1f}", flush=True)


def on_shape() -> tuple[int, int]:
    """Return the shape of the truth's masks."""
    return int(SIDE_UM / COVER_UM) + 1, int(SIDE_UM / COVER_UM) + 1


def real(folder: Path) -> None:
    """Print one row a mark."""
    marks = json.loads(Path("tests/data/qc/marks.json").read_text())
    print("image kind left_out own_code cells")
    for out in sorted(folder.iterdir()):
        store = RunStore(out)
        maps = store.maps()
        codes, um = maps.read("qc"), maps.mpp_um()
        px = um / (store.result().slide.mpp or 0.25)
        for mark in marks.get(out.name[:6], []):
            fine = np.zeros([4 * n for n in codes.shape], np.uint8)
            corners = np.rint(np.array(mark["polygon"]) * 4 / px).astype(np.int32)
            cv2.fillPoly(fine, [corners], 1)
            here = np.repeat(np.repeat(codes, 4, 0), 4, 1)[fine > 0]
            own = qc.CODES[mark["kind"]].value if mark["kind"] in qc.CODES else 0
            print(out.name[:6], mark["kind"], f"{((here & BITS) > 0).mean():.2f}",
                  f"{((here & own) > 0).mean():.2f}", len(here) // 16, flush=True)  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["real"] and len(sys.argv) == 3:
        real(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["drawn"]:
        drawn([int(s) for s in sys.argv[2:]] or [5, 6])
    else:
        sys.exit(__doc__)
