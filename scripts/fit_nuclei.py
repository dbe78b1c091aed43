"""Fit the score of nuclear contours, and print what a fit without each core makes of that core.

    python scripts/fit_nuclei.py --real FOLDER [--write]

Candidates of the classic detector are labelled by the hand marks on eight fields of four real cores
(tests/data/real_nuclei_marks.csv) and by the truth of twelve phantoms: a candidate within 2.5 µm of
a nucleus is one, from 4 µm on it is none, between them (and near marks that are unsure) it does
not count. Two logistic functions are fitted, without and with the slide's typical contrast.
``--write`` replaces her2path/nuclei/weights.py. The same command gives the same weights.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial import cKDTree
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from her2path.geometry import analysis_factor
from her2path.nuclei import _score, classic, weights
from her2path.phantom import PhantomSpec, encode_decode, make_phantom
from her2path.settings import NucleiSettings

ROOT = Path(__file__).parent.parent
MARKS = ROOT / "tests" / "data" / "real_nuclei_marks.csv"
REAL_MPP, REAL_FACTOR, FIELD_PX, PAD_PX = 0.25, 2, 300, 100
#: stain vectors and white of the scans
REAL_H, REAL_D, REAL_WHITE = (0.66, 0.63, 0.41), (0.33, 0.55, 0.77), (234.0, 233.0, 242.0)
NUCLEUS_UM, NOTHING_UM, UNSURE_UM, EDGE_UM = 2.5, 4.0, 5.0, 8.0
SEEDS, PHANTOM_UM = range(101, 113), 260.0
#: weight of the phantoms against the marks, without and with the slide's contrast
PHANTOM_WEIGHT = (0.4, 0.7)
RIDGE = 0.3


@dataclass(frozen=True)
class Picture:
    """Candidates of one picture: features without and with contrast, and labels (1, 0, -1)."""

    core: str
    features: tuple[np.ndarray, np.ndarray]
    label: np.ndarray


def unmix(
    rgb: np.ndarray, factor: int, h: tuple[float, ...], d: tuple[float, ...],
    white: tuple[float, ...],
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return H and DAB OD of a picture reduced by a whole factor, by known vectors."""
    rows, cols = (n - n % factor for n in rgb.shape[:2])
    blocks = rgb[:rows, :cols].astype(np.float32)
    mean = blocks.reshape(rows // factor, factor, cols // factor, factor, 3).mean(axis=(1, 3))
    od = -np.log10(np.maximum(np.rint(mean), 1) / np.array(white, np.float32))
    a, b = (np.array(v) / np.linalg.norm(v) for v in (h, d))
    rest = np.cross(a, b)
    stains = od @ np.linalg.inv(np.stack([a, b, rest / np.linalg.norm(rest)])).astype(np.float32)
    return tuple(np.ascontiguousarray(stains[..., i], np.float32) for i in (0, 1))  # type: ignore


def contrast_of(rgb: np.ndarray) -> float | None:
    """Return a core's typical nuclear contrast from tiles all over it."""
    planes = []
    for y in range(700, 4800, 1000):
        for x in range(700, 4800, 1000):
            h, d = unmix(rgb[y : y + 400, x : x + 400], REAL_FACTOR, REAL_H, REAL_D, REAL_WHITE)
            if (h > 0.03).mean() >= 0.3:
                planes.append((h, d))
    return classic.ClassicDetector().contrast(planes, REAL_MPP * REAL_FACTOR)


def draft(h: np.ndarray, d: np.ndarray, mpp: float, origin: tuple[int, int]) -> Any:
    """Return every candidate with its contour."""
    return classic.ClassicDetector().draft(h, d, mpp, NucleiSettings(), origin)[1]


def _away(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return cKDTree(targets).query(points)[0] if len(targets) else np.full(len(points), np.inf)


def _labels(at: np.ndarray, nuclei: np.ndarray) -> np.ndarray:
    away = _away(at, nuclei)
    return np.where(away <= NUCLEUS_UM, 1, np.where(away <= NOTHING_UM, -1, 0))


def _picture(core: str, drafts: Any, mpp: float, contrast: float | None, label: Any) -> Picture:
    features = (classic._features(drafts, mpp, None), classic._features(drafts, mpp, contrast))
    return Picture(core, features, label)


def real_pictures(folder: Path) -> list[Picture]:
    """Return the marked fields, each with its margin."""
    marks: dict[tuple[str, int, int], list[tuple[float, float, str]]] = {}
    with MARKS.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = (row["image"], int(row["field_x0"]), int(row["field_y0"]))
            marks.setdefault(key, []).append((float(row["x_px"]), float(row["y_px"]), row["kind"]))
    images: dict[str, tuple[np.ndarray, float | None]] = {}
    out = []
    for (core, x, y), rows in marks.items():
        if core not in images:
            path = next((folder / "her2_tma_cores").glob(f"{core}*.jpg"))
            rgb = np.asarray(Image.open(path).convert("RGB"))
            images[core] = (rgb, contrast_of(rgb))
        rgb, contrast = images[core]
        left, top = (max(v - PAD_PX, 0) // REAL_FACTOR * REAL_FACTOR for v in (x, y))
        window = rgb[top : y + FIELD_PX + PAD_PX, left : x + FIELD_PX + PAD_PX]
        mpp = REAL_MPP * REAL_FACTOR
        planes = unmix(window, REAL_FACTOR, REAL_H, REAL_D, REAL_WHITE)
        drafts = draft(*planes, mpp, (top // REAL_FACTOR, left // REAL_FACTOR))
        px = (drafts.at[:, ::-1] + drafts.centre[:, 1::-1] + 0.5) * REAL_FACTOR - 0.5 + [left, top]
        sure, unsure = (np.array([(a, b) for a, b, k in rows if (k == "unsure") == u]
                                 ).reshape(-1, 2) for u in (False, True))  # fmt: skip
        label = _labels(px * REAL_MPP, sure * REAL_MPP)
        label[(label == 0) & (_away(px, unsure) * REAL_MPP <= UNSURE_UM)] = -1
        label[((px < [x, y]) | (px >= [x + FIELD_PX, y + FIELD_PX])).any(axis=1)] = -1
        out.append(_picture(core, drafts, mpp, contrast, label))
    return out


def phantom_picture(seed: int) -> Picture:
    """Return a phantom's candidates, unmixed by its own vectors."""
    spec = PhantomSpec.random(seed, width_um=PHANTOM_UM, height_um=PHANTOM_UM)
    phantom = make_phantom(spec)
    rgb = encode_decode(phantom.rgb, spec.jpeg_quality, spec.subsampling)
    f = analysis_factor(spec.mpp)
    mpp = spec.mpp * f
    drafts = draft(*unmix(rgb, f, spec.hematoxylin, spec.dab, spec.white), mpp, (0, 0))
    at = (drafts.at[:, ::-1] + drafts.centre[:, 1::-1] + 0.5) * mpp
    t = {n: np.array(phantom.truth[n].to_pylist()) for n in phantom.truth.column_names}
    truth = np.column_stack([t["x_um"], t["y_um"]])
    label = _labels(at, truth[t["has_nucleus"]])
    spoilt = t["in_fold"] | t["out_of_focus"] | t["under_pen"]
    label[((at < EDGE_UM) | (at > PHANTOM_UM - EDGE_UM)).any(axis=1)] = -1
    label[_away(at, truth[spoilt]) < EDGE_UM] = -1
    m = drafts.measures
    return _picture("phantom", drafts, mpp, float(np.percentile(m[:, 1] - m[:, 4], 90)), label)


def fit(real: list[Picture], drawn: list[Picture], known: int) -> Any:
    """Fit one of the two functions: marks weigh 1, phantoms `PHANTOM_WEIGHT`."""
    parts = []
    for pictures, weight in ((real, 1.0), (drawn, PHANTOM_WEIGHT[known])):
        x = np.concatenate([p.features[known][p.label >= 0] for p in pictures])
        y = np.concatenate([p.label[p.label >= 0] for p in pictures])
        parts.append((x, y, np.full(len(y), weight / len(y) * 2000)))
    x, y, w = (np.concatenate(v) for v in zip(*parts, strict=True))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=RIDGE, max_iter=2000))
    return model.fit(x, y, logisticregression__sample_weight=w)


def linear(model: Any) -> tuple[np.ndarray, float]:
    """Return weights and bias for features as they are."""
    scaler, last = model[0], model[1]
    w = last.coef_[0] / scaler.scale_
    return w, float(last.intercept_[0] - (w * scaler.mean_).sum())


def held_out(real: list[Picture], drawn: list[Picture], known: int) -> None:
    """Print how candidates of each core are told by a fit without it."""
    for core in sorted({p.core for p in real}):
        model = fit([p for p in real if p.core != core], drawn, known)
        x = np.concatenate([p.features[known][p.label >= 0] for p in real if p.core == core])
        y = np.concatenate([p.label[p.label >= 0] for p in real if p.core == core]) == 1
        called = model.predict_proba(x)[:, 1] > classic.MIN_SCORE
        print(f"  {core}: candidates on nuclei kept {called[y].mean():.2f}, "
              f"on nothing kept {called[~y].mean():.2f}")  # fmt: skip


def text(fitted: list[tuple[np.ndarray, float]]) -> str:
    """Return the module that holds the weights."""
    names = (_score.FEATURES, _score.FEATURES + _score.SLIDE_FEATURES)
    lines = [
        '"""Weights of the score: alone, and where the slide\'s contrast is known."""\n',
        "from __future__ import annotations\n",
        "import numpy as np\nimport numpy.typing as npt\n",
        '__all__ = ["BIAS", "BIAS_WITH_CONTRAST", "WEIGHTS", "WEIGHTS_WITH_CONTRAST"]\n',
    ]
    for (w, bias), own, end in zip(fitted, names, ("", "_WITH_CONTRAST"), strict=True):
        rows = "".join(f"        {v:.4f},  # {n}\n" for n, v in zip(own, w, strict=True))
        lines.append(
            f"WEIGHTS{end}: npt.NDArray[np.float64] = np.array(\n    [\n{rows}    ],\n"
            f"    np.float64,\n)\nBIAS{end} = {bias:.4f}\n"
        )
    return "\n".join(lines)


def main() -> None:
    """Draft, fit, print, and write."""
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    ask.add_argument("--real", type=Path, required=True, help="folder with her2_tma_cores")
    ask.add_argument("--write", action="store_true")
    args = ask.parse_args()
    real = real_pictures(args.real)
    drawn = [phantom_picture(seed) for seed in SEEDS]
    fitted = []
    for known, present in ((0, weights.WEIGHTS), (1, weights.WEIGHTS_WITH_CONTRAST)):
        print("with" if known else "without", "the slide's contrast; by the other cores")
        held_out(real, drawn, known)
        fitted.append(linear(fit(real, drawn, known)))
        print(f"  farthest from the present weights: {np.abs(fitted[-1][0] - present).max():.3f}")
    if args.write:
        Path(weights.__file__).write_text(text(fitted), encoding="utf-8")


if __name__ == "__main__":
    main()
