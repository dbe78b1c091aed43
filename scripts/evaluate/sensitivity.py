"""Compare the share of faint cells that a slide says it shows with the share that it shows.

    python -m scripts.evaluate.sensitivity --slides 10

Drawings of a generator that nothing is fitted on (`phantoms/patchwork.py`) hold unstained and faint
cells; each is shown softer than the one before, down to a scan that hides them, in one of three
compressions and with more noise. The program scores each with its default settings. Printed are,
slide by slide: the softening (sigma, um), the faint tumour cells that the program found as tumour
cells, the share of them that reads stained, the share predicted (`sensitivity.faint_found`),
blanks, and the limits.
Drawings are no tissue.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from her2path.core.settings import Settings
from scripts.evaluate.comparison import positions, score_pixels, tumour_of
from scripts.evaluate.matching import pair
from scripts.phantoms.drawn import Drawn
from scripts.phantoms.generators import GENERATORS
from scripts.phantoms.jpeg import through_jpeg

MIXTURE = {"none": 0.6, "faint_incomplete": 0.3, "faint_complete": 0.1}
EDGE_UM = 12.0
SOFTEST_UM = 0.9


def soften(drawn: Drawn, blur_um: float, quality: int, noise: float, seed: int) -> np.ndarray:
    """Return the drawing's pixels, uint8 (H, W, 3) RGB, as a softer scan shows them."""
    light = cv2.GaussianBlur(drawn.rgb.astype(np.float32), (0, 0), max(blur_um / drawn.mpp, 1e-3))
    light += np.random.default_rng(seed).normal(0, noise, light.shape)
    grey = np.clip(np.rint(light), 0, 255).astype(np.uint8)
    return through_jpeg(grey, quality)


def judge(drawn: Drawn, rgb: np.ndarray, folder: Path, settings: Settings) -> dict[str, Any]:
    """Score one slide and compare it with its truth."""
    result = score_pixels(rgb, folder / "out", settings.replace({"slide.mpp": drawn.mpp}))
    said, score = result.result.sensitivity, result.result.score
    if said is None or score is None:
        return {"status": result.result.status}
    t = drawn.columns()
    inner = drawn.away_from_edge(EDGE_UM) & (t["cell_type"] == "tumour")
    mine = tumour_of(result.cells(["x_um", "y_um", "cell_type", "membrane_od", "pattern"]))
    stained = mine.column("membrane_od").to_numpy() > 0
    mate = pair(positions(mine), drawn.at())
    hit = (mate >= 0) & inner[mate]
    faint = np.char.startswith(t["pattern"].astype(str), "faint")[mate] & hit
    bare = (t["pattern"] == "none")[mate] & hit
    return {
        "cells": int(faint.sum()), "true": float(stained[faint].mean()),
        "predicted": said.faint_found, "low": said.faint_found_low, "high": said.faint_found_high,
        "blank_true": float(stained[bare].mean()), "blank": said.blank_rate, "spiked": said.cells,
        "blur_um": said.blur_um, "od_50": said.od_50, "od_95": said.od_95, "reason": said.reason,
        "score": score.ihc, "probability": score.probability,
        "recovery": [(r.membrane_od, round(r.found, 2), r.n) for r in said.recovery],
    }  # fmt: skip


def main() -> None:
    """Judge slides from sharp to soft."""
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ask.add_argument("--slides", type=int, default=10)
    ask.add_argument("--seed", type=int, default=960_000)
    ask.add_argument("--size-um", type=float, default=420.0)
    ask.add_argument("--json", type=Path)
    ask.add_argument("--generator", choices=["outlined", "patchwork"], default="patchwork")
    args, rows = ask.parse_args(), []
    generator = GENERATORS[args.generator]
    for k in range(args.slides):
        blur = SOFTEST_UM * k / max(args.slides - 1, 1)
        style = generator.STYLES[k % len(generator.STYLES)]
        drawn = generator.draw(args.seed + k, style, MIXTURE, args.size_um)
        quality, noise = (92, 80, 65)[k % 3], (0.5, 1.5)[k % 2]
        with tempfile.TemporaryDirectory() as folder:
            rgb = soften(drawn, blur, quality, noise, args.seed + k)
            row = {"softened_um": blur, "mpp": drawn.mpp, "quality": quality} | judge(
                drawn, rgb, Path(folder), Settings()
            )
        rows.append(row)
        print({n: round(v, 3) if isinstance(v, float) else v for n, v in row.items()}, flush=True)
    known = [r for r in rows if r.get("predicted") is not None]
    apart = np.array([r["predicted"] - r["true"] for r in known])
    print(f"{len(known)} of {len(rows)} slides; predicted less true: mean {apart.mean():+.3f}, "
          f"largest {np.abs(apart).max():.3f}, "
          f"within 10 points {(np.abs(apart) <= 0.10).sum()}")  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
