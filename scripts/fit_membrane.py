"""Fit the weights of the joint attribution of shared membranes.

    python scripts/fit_membrane.py --tables /tmp/tables -o her2path/membrane/weights.npz

Slides of three generators are drawn and measured (`membrane_slides.py`; kept in `--tables`), tables
of hand-made nests are added (`membrane_nests.py`), and the model of `membrane_model.py` is fitted
on them, one slide a step: as the program sees it, with true nuclei, or with its lines broken up by
grain, under more noise, at another strength, or without some of its cells. Steps and seeds are
fixed, so that the command gives the same weights on the same machine. The fit goes twice from a
high rate to a low one, the second time with many nests; `--start` goes on from weights (the shipped
ones come of six such runs in a row, see docs/methods-membrane.md), `--go 1` takes up the second
go. Other slides (numbers from 100000) choose among the running means of the weights; the slides of
`evaluate_membrane.py` take part in nothing here.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from membrane_model import Model, lose_cells, loss_of, prepare, roughen
from membrane_slides import tables
from torch import nn

from her2path.membrane import _network

#: numbers of the slides that choose
CHOOSE = {
    "own": (100_000, 100_048),
    "pure": (100_000, 100_032),
    "other": (100_000, 100_020),
    "drawn": (100_000, 100_020),
    "rough": (100_000, 100_012),
    "inner": (100_000, 100_016),
}


@dataclass(frozen=True)
class Go:
    """One fall of the rate: steps, first rate, and how many slides of each kind are fitted."""

    steps: int
    rate: float
    own: int
    pure: int
    other: int
    drawn: int
    rough: int
    inner: int
    nest: int


GOES = (
    Go(10000, 2.0e-3, 400, 100, 80, 120, 72, 80, 160),
    Go(3500, 1.2e-3, 400, 100, 80, 120, 72, 80, 640),
)
#: what the last go, rich in nests, weighs in the mean of its weights and those of the go before
LAST = 0.3
#: probability of any staining at which the slides that choose are judged
SURE = 0.7
#: steps between two tries on the slides that choose
TRY = 400
#: how fast the running mean of the weights forgets
MEAN = 0.998


def draw_step(
    slides: list[list[dict[str, Any]]], rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    """Return one slide as the model sees it: found or true nuclei, as it is or worse."""
    both = slides[int(rng.integers(len(slides)))]
    table = both[int(rng.random() < 0.2)]
    table = roughen(table, rng) if rng.random() < 0.6 else table
    return prepare(lose_cells(table, rng) if rng.random() < 0.35 else table)


def score(model: Model, slides: list[dict[str, torch.Tensor]]) -> dict[str, float]:
    """Return errors of completeness and false stain over the slides that choose."""
    errors, quiet, mixed, missed = [], [], [], []
    with torch.no_grad():
        for d in slides:
            r, use = model(d), d["use"] > 0
            stained = r["gate"] >= SURE
            stained &= d["cell"][:, _network.DOUBTS] <= _network.BLIND
            found, none = r["c"] * stained, use & (d["t_intensity"] == 0)
            errors.append((found - d["t_completeness"]).abs()[use].mean().item())
            false = (found >= 0.1)[none].float()
            (mixed if (use & ~none).any() else quiet).append(false)
            missed.append((found < 0.1)[use & ~none].float())
    rates = [torch.cat(f).mean().item() if f else 0.0 for f in (quiet, mixed, missed)]
    names = ("mae", "worst", "quiet", "mixed", "missed")
    values = (float(np.mean(errors)), float(np.max(errors)), *rates)
    return dict(zip(names, values, strict=True))


def step_once(
    model: Model, optimiser: torch.optim.Optimizer, d: dict[str, torch.Tensor], done: float
) -> float:
    """Take one step and return the loss; the places' own truth helps less and less."""
    loss = loss_of(d, model(d), help_rays=0.6 * (1 - done) + 0.1)
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return loss.item()


def fit(
    model: Model,
    slides: list[list[dict[str, Any]]],
    choose: list[dict[str, torch.Tensor]],
    go: Go,
    seed: int,
    out: Path,
) -> Model:
    """Return the model after one go: its running mean that did best on ``choose``; see ``out``."""
    steps, rng, begin = go.steps, np.random.default_rng(seed), time.monotonic()
    mean, best, total = Model(), np.inf, 0.0
    mean.load_state_dict(model.state_dict())
    kept = mean.state_dict()
    optimiser = torch.optim.Adam(model.parameters(), lr=go.rate)
    for step in range(steps):
        done = step / steps
        slope = min(1.0, (step + 1) / 50) * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * done)))
        optimiser.param_groups[0]["lr"] = go.rate * slope
        total += step_once(model, optimiser, draw_step(slides, rng), done)
        with torch.no_grad():
            for a, b in zip(mean.parameters(), model.parameters(), strict=True):
                a.lerp_(b, max(1 - MEAN, 1 / (step + 1)))
        if (step + 1) % TRY and step + 1 < steps:
            continue
        s = score(mean, choose)
        goal = s["mae"] + s["quiet"] + 0.3 * s["mixed"]
        if goal <= best:
            best, kept = goal, {k: v.clone() for k, v in mean.state_dict().items()}
            write(mean, out)
        said = " ".join(f"{k} {v:.4f}" for k, v in s.items())
        spent = time.monotonic() - begin
        print(f"{step + 1} {spent:.0f} s  loss {total / TRY:.4f}  {said}", flush=True)
        total = 0.0
    mean.load_state_dict(kept)
    return mean


def write(model: Model, path: Path) -> None:
    """Write the weights as the package reads them."""
    arrays = {n: p.detach().numpy().astype(np.float32) for n, p in model.named_parameters()}
    np.savez_compressed(path, **arrays)


def main() -> None:
    """Paint, measure, fit, write."""
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ask.add_argument("--tables", type=Path, required=True, help="folder that keeps measured slides")
    ask.add_argument("--start", type=Path, help="weights to go on from")
    ask.add_argument("--go", type=int, default=0, help="go to begin with, 0 or 1")
    ask.add_argument("--mix", type=float, default=1.0, help="share of what is fitted in its mean"
                     " with the weights of --start")  # fmt: skip
    ask.add_argument("-o", "--out", type=Path, required=True)
    args = ask.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Model()
    if args.mix < 1 and not args.start:
        ask.error("--mix takes the mean with --start")
    if args.start:
        known = {n: torch.from_numpy(v) for n, v in np.load(args.start).items()}
        # weights from before the looks start without what these add
        model.load_state_dict(model.state_dict() | known)
    choose = [
        prepare(tables(kind, n, args.tables / kind)[0])
        for kind, ends in CHOOSE.items()
        for n in range(*ends)
    ]
    for seed, go in enumerate(GOES[args.go :], start=args.go):
        slides = [
            tables(kind, n, args.tables / kind)
            for kind in ("own", "pure", "other", "drawn", "rough", "inner", "nest")
            for n in range(getattr(go, kind))
        ]
        before = {n: v.clone() for n, v in model.state_dict().items()}
        model = fit(model, slides, choose, go, seed, args.out)
    for name, value in model.state_dict().items():
        value.lerp_(before[name], 1 - LAST)
        if args.mix < 1:
            value.lerp_(known[name], 1 - args.mix)
    write(model, args.out)


if __name__ == "__main__":
    main()
