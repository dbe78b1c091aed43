"""Make, train and judge the CNN model that ships: one command, one result.

    python -m scripts.fit.cnn                        # phantoms, training, card
    python -m scripts.fit.cnn --real DATA             # also judged on real images, below DATA
    python -m scripts.fit.cnn --only-judge            # measures the model that is there
    python -m scripts.fit.cnn -o out/od --channels od --phantoms 60 --drawn 36 --epochs 8

Training phantoms come from two generators (`her2path.phantom`, `outlined`), with other
stains, scanners, tissue and mixtures each; `cnn.fit` holds whole scanners out for the test. Judged
is on other seeds, on scanners that no training phantom saw, and on a third generator
(`patchwork`) on which nothing was trained, fitted or chosen.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from her2path import cnn
from her2path.cnn import metrics
from her2path.cnn.card import Card
from her2path.core.schema import PATTERNS, SCORES
from her2path.phantom import PhantomSpec, random_spec
from her2path.phantom.presets import TUMOURS
from scripts.evaluate.patches import judge_reads
from scripts.phantoms import own
from scripts.phantoms.drawn import Drawn, Generator
from scripts.phantoms.generators import GENERATORS

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
MODEL = ROOT / "her2path" / "cnn" / "weights" / "builtin.safetensors"
SIZE_UM = 280.0
SCANNERS = 16
#: fields of a phantom that belong to the scanner and stainer, not to the tissue
SCANNER_FIELDS = (
    "hematoxylin",
    "dab",
    "white",
    "blur_um",
    "sharpen",
    "noise",
    "mpp",
    "jpeg_quality",
    "subsampling",
)
LIMITS = (
    "Trained on synthetic images (drawn phantoms) only; no image of a patient was used.",
    "Intensities follow the phantoms' protocol: like the rule-based cut-offs it is not calibrated "
    "to any laboratory.",
    "Sees 64 µm around a tumour cell that the program found; in-situ carcinoma, normal ducts, "
    "necrosis and edge artefact are unknown to it.",
    "Figures on phantoms are not accuracies on patients.",
)


def mixture(rng: np.random.Generator) -> dict[str, float]:
    """Draw a mixture of patterns: a known tumour, bent; or anything at all."""
    if rng.random() < 0.65:
        base = dict(TUMOURS[str(rng.choice(sorted(TUMOURS)))])
        return {p: w * float(np.exp(rng.normal(0, 0.5))) for p, w in base.items()}
    weights = rng.dirichlet(np.full(len(PATTERNS), 0.35))
    return {p: float(w) for p, w in zip(PATTERNS, weights, strict=True) if w > 0.005}


def spec_of(seed: int, scanner: int) -> PhantomSpec:
    """Draw the phantom of one case."""
    rng = np.random.default_rng([seed, 5])
    machine = random_spec(900_000 + scanner).model_dump(include=set(SCANNER_FIELDS))
    drawn = random_spec(seed, width_um=SIZE_UM, height_um=SIZE_UM, margin_um=10.0)
    change: dict[str, Any] = {
        **machine,
        "mixture": mixture(rng),
        "tumour_share": float(rng.uniform(0.55, 0.85)),
        "blush": float(rng.gamma(1.5, 0.03)),
        "background_dab": float(rng.uniform(0, 0.03)),
        "blur_um": float(machine["blur_um"] + rng.uniform(0, 0.15)),
        "knife_edge": bool(rng.random() < 0.3),
        "clone_um": float(rng.uniform(60, 200)),
    }
    if drawn.layout != "homogeneous":
        change["second"] = mixture(rng)
    return PhantomSpec(**{**drawn.model_dump(), **change})


def case_patches(seed: int, scanner: int, recipe: cnn.Recipe) -> cnn.Patches:
    """Make one phantom, as its file would hold it, and cut its patches."""
    return cut(own.of_spec(spec_of(seed, scanner)), (f"phantom{seed}", f"scanner{scanner}"), recipe)


def cut(drawn: Drawn, names: tuple[str, str], recipe: cnn.Recipe) -> cnn.Patches:
    """Cut the patches of a drawing under the names of its case and its scanner."""
    return cnn.from_phantom_pixels(drawn.rgb, drawn.mpp, drawn.truth, names, recipe)


def many(first: int, count: int, scanners: range, recipe: cnn.Recipe) -> cnn.Patches:
    """Make the patches of ``count`` phantoms, scanner by turns."""
    parts = []
    for i in range(count):
        parts.append(case_patches(first + i, scanners[i % len(scanners)], recipe))
        if (i + 1) % 20 == 0:
            print(f"{i + 1} of {count} phantoms", flush=True)
    return cnn.join(parts)


def drawings(generator: Generator, name: str, seeds: range, recipe: cnn.Recipe) -> cnn.Patches:
    """Make the patches of another generator's drawings; each has a scanner of its own.

    Cases are named after ``name`` and the seed: the split into parts goes by these names.
    """
    parts = []
    for seed in seeds:
        weights = mixture(np.random.default_rng([seed, 8]))
        drawn = generator.draw(seed, generator.STYLES[seed % len(generator.STYLES)], weights)
        parts.append(cut(drawn, (f"{name}{seed}", f"{name}{seed}"), recipe))
    return cnn.join(parts)


def random_phantoms(count: int, recipe: cnn.Recipe) -> cnn.Patches:
    """Make patches of phantoms as `random_spec` draws them."""
    parts = []
    for i in range(count):
        spec = random_spec(700_000 + i, width_um=SIZE_UM, height_um=SIZE_UM)
        parts.append(cut(own.of_spec(spec), (f"other{i}", f"other{i}"), recipe))
    return cnn.join(parts)


def judge(model: Path, patches: cnn.Patches) -> dict[str, Any]:
    """Measure a model on patches that it never saw."""
    scorer = cnn.Scorer.load(model, device="cpu")
    p = np.zeros((len(patches), len(SCORES)))
    for k, stain in enumerate(patches.stains):
        mine = np.flatnonzero(patches.stain == k)
        if len(mine):
            p[mine] = scorer.score_patches(patches.rgb[mine], stain)
    found = {"patches": metrics.summary(p, patches.label)}
    cases = [c for c in np.unique(patches.case) if str(c) in patches.case_score]
    mean = np.array([p[patches.case == c].mean(axis=0) for c in cases])
    truth = np.array([patches.case_score[str(c)] for c in cases])
    table = metrics.confusion(truth, cnn.decide(mean, scorer.card.share))
    found["slides"] = {
        "slides": len(cases),
        "accuracy": round(float(np.trace(table) / table.sum()), 4),
        "quadratic_kappa": round(metrics.quadratic_kappa(table) or 0.0, 4),
        "confusion": table.tolist(),
    }
    return found


def judge_all(model: Path, count: int, recipe: cnn.Recipe) -> dict[str, Any]:
    """Measure a model on ``count`` phantoms of each kind."""
    unseen = range(SCANNERS, SCANNERS + 8)
    kinds: dict[str, Callable[[], cnn.Patches]] = {
        "unseen_phantoms": lambda: many(500_000, count, unseen, recipe),
        "random_phantoms": lambda: random_phantoms(count, recipe),
        "unseen_drawings": lambda: drawings(
            GENERATORS["outlined"], "draw", range(600_000, 600_000 + count), recipe
        ),
        "generator_never_trained_on": lambda: drawings(
            GENERATORS["patchwork"], "patchwork", range(650_000, 650_000 + count), recipe
        ),
    }
    found = {}
    for name, make in kinds.items():
        found[name] = judge(model, make())
        print(name, json.dumps(found[name]), flush=True)
    return found


def real_cores(model: Path, folder: Path, work: Path) -> list[dict[str, Any]]:
    """Read real cores as `her2path score CORE --mpp 0.25 --cnn MODEL` does; finished ones stay."""
    from her2path.api import score_slide
    from her2path.core.settings import Settings
    from her2path.runs.case.rescore import what_if

    settings = Settings().replace({
        "slide.mpp": 0.25, "score.guideline": "gastric_resection",
        "cnn.model": "builtin" if model == MODEL else str(model),
        # nothing that is read here depends on these
        "heterogeneity.permutations": 99, "score.bootstrap_draws": 50,
        "heterogeneity.biopsy_draws": 20,
    })  # fmt: skip
    rows = []
    for path in sorted((folder / "her2_tma_cores").glob("*.jpg")):
        result = score_slide(path, work / path.stem, settings, report=False).result
        if result.cnn is None or result.score is None:
            print(path.name, result.status, flush=True)
            continue
        ruled = {r["guideline"]: r["ihc"] for r in what_if(work / path.stem)}
        rows.append({
            "case_label": SCORES[int(path.name[0])],
            "core": path.stem[:6],
            "cnn": result.cnn.score,
            "probability": list((result.cnn.probability or {}).values()),
            "regions": result.cnn.regions.model_dump() if result.cnn.regions else None,
            "rules_gastric": result.score.ihc,
            "rules_breast_2018": ruled["asco_cap_2018"],
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def add_to_card(model: Path, more: dict[str, Any]) -> None:
    """Write further measurements into the card."""
    path = model.with_suffix(".json")
    card = cnn.read_card(path)
    new = Card(**{**card.model_dump(), "metrics": {**card.metrics, **more}})
    path.write_text(new.json_text(), encoding="utf-8")


def main() -> None:
    """Read the command line, and do it."""
    run(arguments())


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=MODEL)
    parser.add_argument("--phantoms", type=int, default=160, help="of her2path.phantom")
    parser.add_argument("--drawn", type=int, default=96, help="of scripts.phantoms.outlined")
    parser.add_argument("--evaluate", type=int, default=40, help="of each kind")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--channels", default="h_dab")
    parser.add_argument("--arch", default="small")
    parser.add_argument("--real", type=Path, help="folder of the real images; they judge only")
    parser.add_argument("--work", type=Path, default=Path("out") / "builtin")
    parser.add_argument("--only-judge", action="store_true", help="measure the model that is there")
    return parser.parse_args(words)


def run(told: argparse.Namespace) -> None:
    """Train, judge, and write the card."""
    import torch

    torch.set_num_threads(1)  # with more, sums come in another order and the weights differ
    recipe = cnn.Recipe(per_slide=32)
    if not told.only_judge:
        train(told, recipe)
    found = judge_all(told.out, told.evaluate, recipe) if told.evaluate else {}
    if told.real is not None:
        recipe_of_fields = cnn.Recipe(per_slide=4)
        found["read_fields"] = judge_reads(told.out, told.real, recipe_of_fields)
        print("read_fields", json.dumps(found["read_fields"]), flush=True)
        found["real_cores"] = real_cores(told.out, told.real, told.work)
    add_to_card(told.out, found)


def train(told: argparse.Namespace, recipe: cnn.Recipe) -> None:
    """Make the phantoms, and train on them."""
    patches = many(0, told.phantoms, range(SCANNERS), recipe)
    if told.drawn:
        more = drawings(GENERATORS["outlined"], "draw", range(told.drawn), recipe)
        patches = cnn.join([patches, more])
    print(len(patches), "patches; classes", np.bincount(patches.label, minlength=4), flush=True)
    options = cnn.TrainOptions(
        name="builtin",
        architecture=told.arch,
        channels=told.channels,
        epochs=told.epochs,
        patience=6,
        licence="Apache-2.0",
        limits=LIMITS,
        device="cpu",
    )
    begun = time.monotonic()

    def tick(stage: str, done: int, total: int, _: float) -> None:
        if done % 20 == 0:
            print(f"{stage} {done}/{total}, {time.monotonic() - begun:.0f} s", flush=True)

    card = cnn.fit(patches, told.out, options, tick)
    if told.out == MODEL:  # people look for it beside models/README.md; it is not package data
        MODEL.with_suffix(".report.html").replace(MODELS / "builtin.report.html")
    print(json.dumps(card.metrics, indent=1))


if __name__ == "__main__":
    main()
