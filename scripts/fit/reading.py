"""Fit the two nets of the reading from nothing: pictures, finder, reader, export, cards.

    HER2PATH_REAL_DATA=DATA python -m scripts.fit.reading --cache CACHE
    HER2PATH_REAL_DATA=DATA python -m scripts.fit.reading --cache CACHE --without 2_0123 0_a6d0 \
        --short -o CACHE/without_2_0123

Pictures are drawings of three generators and every field of real cells read by eye, as it is and
as worse scanners would show it. First the finder learns where nuclei are and of what kind; then the
reader learns what one cell shows. With ``--without`` no cell of the named images takes part in
anything, and the nets are for judging those images alone. Seeds are fixed; one thread is used, and
bfloat16: another kind of processor gives other weights, as good. What is made stays in the cache,
under a key of the code and files that it is made from.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import logging
import os
import pickle
import platform
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import her2path.phantom
import scripts.phantoms
from her2path.cells import reading
from her2path.cells.reading.inputs import (
    CHANNELS,
    GRID_UM,
    PLACES,
    RADII,
    WRAP,
    grid_inputs,
    to_channels,
)
from her2path.cells.reading.nets import BATCH
from scripts.fit import batches as reading_batches
from scripts.fit import looks, read_fields
from scripts.fit import nets as reading_nets
from scripts.fit import pictures as reading_pictures
from scripts.fit.batches import Bank, bank, cell_batch, heat_loss, piece
from scripts.fit.losses import reader_loss
from scripts.fit.nets import FEATURES, MARGIN, Finder, Reader
from scripts.fit.pictures import Taught
from scripts.fit.quantize import Feed, quantize
from scripts.fit.read_fields import READS
from scripts.phantoms import jpeg

log = logging.getLogger("fit_reading")
FOLDER = Path(reading.__file__).parent / "weights"
#: numbers of drawings of each kind
DRAWN = {"own": 240, "outlined": 130, "plain": 48}
#: steps of finder and reader, in full and in short
STEPS, SHORT = (8000, 6000), (6000, 4500)
#: looks under which the read fields are shown, beside their own
SHOWN = ("soft", "clipped", "coarse")
#: pieces of a finder's batch, and where each comes from
PIECES = 6
SHARES = {"real": 0.62, "own": 0.18, "outlined": 0.12, "plain": 0.08}
DRAW: dict[str, Callable[[int], Taught]] = {
    "own": reading_pictures.own_picture,
    "outlined": reading_pictures.outlined_picture,
    "plain": reading_pictures.plain_picture,
}
SEED = 5
#: samples from which the scales of whole numbers are taken: finder's batches, reader's batches
SAMPLES = {"finder": 40, "reader": 24}
#: layers whose outputs are log odds stay in single precision
SINGLE = {"finder": ("heat", "kind"), "reader": ("edges", "own")}


def cached(folder: Path, name: str, make: Callable[[], Any]) -> Any:
    """Return what was made before under this name, or make and keep it."""
    file = folder / f"{name}.pkl"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        made = make()
        tmp = file.with_suffix(f".{os.getpid()}")
        tmp.write_bytes(pickle.dumps(made))
        tmp.replace(file)
    return pickle.loads(file.read_bytes())


def key_of(*sources: Any) -> str:
    """Return a key of the code and files that pictures are made from."""
    total = hashlib.sha256()
    for source in sources:
        if isinstance(source, Path):
            total.update(source.read_bytes())
            continue
        here = Path(inspect.getfile(source))
        files = sorted(here.parent.glob("*.py")) if here.name == "__init__.py" else [here]
        for file in files:
            total.update(file.read_bytes())
    return total.hexdigest()[:12]


def drawings(cache: Path) -> dict[str, list[Taught]]:
    """Return the drawings of every kind."""
    key = key_of(her2path.phantom, scripts.phantoms, reading_pictures)
    return {
        kind: [cached(cache / f"drawn-{key}", f"{kind}_{k:04d}", partial(DRAW[kind], k))
               for k in range(count)]
        for kind, count in DRAWN.items()
    }  # fmt: skip


def real_fields(cache: Path, data: Path, without: Sequence[str]) -> list[Taught]:
    """Return the fields of read cells, under all looks, but for the images left out."""
    key = key_of(
        looks, jpeg, reading_pictures, read_fields, READS / "reads.csv", READS / "fields.csv"
    )
    every = cached(cache, f"real-{key}", lambda: read_fields.real_pictures(data, SHOWN))
    return [p for p in every if p.source not in without]


def average(net: torch.nn.Module) -> Any:
    """Return the running mean of a net's weights, which is what is kept of a fit."""
    return torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )


def learn(net: torch.nn.Module, steps: int, loss_of: Callable[[], Tensor]) -> Any:
    """Take steps down a loss; return the mean net."""
    rate = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=2e-3)
    plan = torch.optim.lr_scheduler.OneCycleLR(rate, 3e-3, total_steps=steps, pct_start=0.1)
    mean, seen, start = average(net), [], time.monotonic()
    for step in range(steps):
        loss = loss_of()
        rate.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        rate.step()
        plan.step()
        mean.update_parameters(net)
        seen.append(float(loss.detach()))
        if (step + 1) % 500 == 0:
            log.info("%s %d: %.3f, %.0f s", type(net).__name__, step + 1, np.mean(seen[-500:]),
                     time.monotonic() - start)  # fmt: skip
    return mean.module.eval()


def pieces_of(pictures: dict[str, list[Taught]], rng: np.random.Generator) -> list[Any]:
    """Return the pieces of one batch of the finder, from pictures of all kinds."""
    drawn = rng.choice(list(SHARES), PIECES, p=list(SHARES.values()))
    # all pictures are drawn first: the seed then gives the pieces that the shipped nets learnt from
    some = [pictures[k][rng.integers(len(pictures[k]))] for k in drawn]
    return [piece(p, rng) for p in some]


def fit_finder(pictures: dict[str, list[Taught]], steps: int) -> Finder:
    """Fit the finder on pieces of the pictures."""
    rng = np.random.default_rng(SEED)
    torch.manual_seed(SEED)
    net = Finder()

    def loss_of() -> Tensor:
        pieces = pieces_of(pictures, rng)
        x = torch.from_numpy(to_channels(np.stack([p["x"] for p in pieces])))
        with torch.autocast("cpu", torch.bfloat16):
            heat, kind, _ = net(x)
        truth, weight = (
            torch.from_numpy(np.stack([p[n] for p in pieces])) for n in ("heat", "weight")
        )
        loss = heat_loss(heat.float()[:, 0], truth, weight)
        at = [(k, *point) for k, p in enumerate(pieces) for point in p["points"]]
        if at:
            b, j, i = (torch.tensor(v) for v in zip(*at, strict=True))
            j, i = j.clamp(max=kind.shape[2] - 1), i.clamp(max=kind.shape[3] - 1)
            share = torch.from_numpy(np.concatenate([p["kinds"] for p in pieces]))
            said = torch.log_softmax(kind.float()[b, :, j, i], 1)
            loss = loss - (share * said).sum(1).mean()
        return loss

    return learn(net, steps, loss_of)


def features_at(finder: Finder, picture: Taught) -> Callable[[np.ndarray], np.ndarray]:
    """Return what gives the finder's features at places (n, 2) µm of a picture."""
    planes = picture.planes.astype(np.float32)
    rows, columns = (-(-int(n * picture.mpp_a / GRID_UM) // 8) * 8 for n in planes.shape[1:])
    box = (-MARGIN, -MARGIN, rows + 2 * MARGIN, columns + 2 * MARGIN)
    x = grid_inputs(planes, picture.mpp_a, (0, 0), box)
    with torch.no_grad():
        found = finder(torch.from_numpy(x[None]))[2][0].numpy()

    def at(places: np.ndarray) -> np.ndarray:
        j, i = (np.clip((places[:, k] / GRID_UM / 2).astype(int), 0, found.shape[2 - k] - 1)
                for k in (1, 0))  # fmt: skip
        return np.ascontiguousarray(found[:, j, i].T)

    return at


def banks_of(
    finder: Finder, pictures: dict[str, list[Taught]], rng: np.random.Generator
) -> list[Bank]:
    """Return the drawn cells, and three views each of the real ones."""
    drawn = pictures["own"] + pictures["outlined"]
    return [_bank(finder, drawn, 1, rng), _bank(finder, pictures["real"], 3, rng)]


def fit_reader(banks: list[Bank], rng: np.random.Generator, steps: int) -> Reader:
    """Fit the reader on cells in polar form."""
    torch.manual_seed(SEED + 2)
    log.info("cells: %d drawn, %d real views", *(len(b.truth) for b in banks))
    net = Reader()

    def loss_of() -> Tensor:
        total = torch.zeros(())
        for cells, is_real in zip(banks, (False, True), strict=True):
            x, features, truth = cell_batch(cells, 128, rng)
            with torch.autocast("cpu", torch.bfloat16):
                said = net(x, features)
            total = total + reader_loss([s.float() for s in said], truth, is_real)
        return total

    return learn(net, steps, loss_of)


def _bank(finder: Finder, pictures: list[Taught], versions: int, rng: Any) -> Bank:
    return bank([p for p in pictures if len(p.cells)], versions, rng,
                lambda picture: features_at(finder, picture))  # fmt: skip


def finder_samples(pictures: dict[str, list[Taught]]) -> list[Feed]:
    """Return inputs of the finder as it meets them in its fit."""
    rng = np.random.default_rng(SEED + 1)
    parts = [p["x"] for _ in range(SAMPLES["finder"]) for p in pieces_of(pictures, rng)]
    return [{"x": to_channels(x[None])} for x in parts]


def reader_samples(banks: list[Bank]) -> list[Feed]:
    """Return inputs of the reader as it meets them in its fit."""
    rng = np.random.default_rng(SEED + 3)
    made = [cell_batch(b, BATCH, rng) for _ in range(SAMPLES["reader"]) for b in banks]
    return [{"x": x.numpy(), "features": features.numpy()} for x, features, _ in made]


def export(net: torch.nn.Module, name: str, folder: Path, samples: list[Feed]) -> str:
    """Write a net as ONNX in whole numbers; return the file's hash."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.onnx"
    if name == "finder":
        side = 2 * MARGIN + 64
        example: tuple[Tensor, ...] = (torch.zeros(1, CHANNELS, side, side),)
        names, out = ["x"], ["heat", "kind", "features"]
        axes = {"x": {2: "rows", 3: "columns"}}
    else:
        cells = torch.zeros(BATCH, CHANNELS, PLACES + 2 * WRAP, RADII)
        example = (cells, torch.zeros(BATCH, FEATURES))
        names, out, axes = ["x", "features"], ["edges", "own", "verdict"], {}
    torch.onnx.export(
        net.float(), example, str(file), dynamo=False, input_names=names, output_names=out,
        dynamic_axes=axes, opset_version=17,
    )  # fmt: skip
    quantize(file, samples, single=SINGLE[name])
    return hashlib.sha256(file.read_bytes()).hexdigest()


def kept_finder(folder: Path) -> Finder | None:
    """Return the finder of a fit that was stopped while the reader learnt."""
    file = folder / "finder.pt"
    if not file.exists():
        return None
    net = Finder()
    net.load_state_dict(torch.load(file, weights_only=True))
    return net.eval()


def write_cards(folder: Path, hashes: dict[str, str], made: dict[str, Any]) -> None:
    """Write a card beside each net."""
    for name, sha256 in hashes.items():
        facts = {"name": name, "sha256": sha256, "licence": "Apache-2.0"} | made
        text = json.dumps(facts, indent=1, ensure_ascii=False, sort_keys=True)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def fit(args: argparse.Namespace) -> None:
    """Run the whole fit."""
    data, start = Path(os.environ["HER2PATH_REAL_DATA"]), time.monotonic()
    torch.set_num_threads(1)
    pictures = drawings(args.cache) | {"real": real_fields(args.cache, data, args.without)}
    log.info("%s pictures, %.0f s", {k: len(v) for k, v in pictures.items()},
             time.monotonic() - start)  # fmt: skip
    steps = SHORT if args.short else STEPS
    finder = kept_finder(args.out) or fit_finder(pictures, steps[0])
    hashes = {"finder": export(finder, "finder", args.out, finder_samples(pictures))}
    made = {
        "made_by": "scripts/fit/reading.py", "seed": SEED, "steps": steps,
        "without": sorted(args.without), "drawings": DRAWN,
        "read_cells": {s: int(sum(len(p.cells) for p in pictures["real"] if p.source == s))
                       for s in sorted({p.source for p in pictures["real"]})},
        "looks": ["as_is", *SHOWN],
        "key": key_of(her2path.phantom, scripts.phantoms, looks, reading_pictures, read_fields,
                      reading_batches, reading_nets, READS / "reads.csv"),
        "precision": "weights of 7 bits, activations of 8; log odds in single precision",
        "torch": torch.__version__, "processor": platform.machine(),
        "truth": "cells read by image-reading models, two for each; drawings. No diagnoses.",
    }  # fmt: skip
    write_cards(args.out, hashes, made)
    torch.save(finder.state_dict(), args.out / "finder.pt")
    rng = np.random.default_rng(SEED + 2)
    banks = banks_of(finder, pictures, rng)
    reader = fit_reader(banks, rng, steps[1])
    hashes["reader"] = export(reader, "reader", args.out, reader_samples(banks))
    write_cards(args.out, hashes, made | {"seconds": round(time.monotonic() - start)})
    (args.out / "finder.pt").unlink()


def main() -> None:
    """Read the command line."""
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ask.add_argument("--cache", type=Path, required=True, help="folder of pictures")
    ask.add_argument("--without", nargs="*", default=[], help="real images that take no part")
    ask.add_argument("--short", action="store_true", help="fewer steps")
    ask.add_argument("-o", "--out", type=Path, default=FOLDER, help="folder of the nets")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    fit(ask.parse_args())


if __name__ == "__main__":
    main()
