"""Training: patches in; a model, its card and a report out."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path import __version__
from her2path.cnn import metrics
from her2path.cnn._torch import torch
from her2path.cnn.augment import batch_planes
from her2path.cnn.card import Card
from her2path.cnn.checkpoint import Checkpoint, Progressed, fingerprint, net_state
from her2path.cnn.device import choose
from her2path.cnn.options import TrainOptions
from her2path.cnn.ordinal import CLASSES, LOGITS, corn_loss, probabilities
from her2path.cnn.patches import CHANNELS, NORMALISATION, Patches
from her2path.cnn.registry import build
from her2path.cnn.report import write_report
from her2path.cnn.split import Split, split
from her2path.cnn.verdict import decide
from her2path.cnn.weights import save_arrays, weights_path
from her2path.core.schema import SCORES
from her2path.io.store import write_text

__all__ = ["fit"]

Progress = Callable[[str, int, int, float], None]
#: shares tried for the card, and held-out cases that a choice needs
SHARES = (0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1)
ENOUGH_CASES = 12
#: share of the steps in which the learning rate rises
WARM_UP = 0.1
WEIGHT_DECAY = 0.05


@dataclass(frozen=True)
class _Bench:
    """What a run works with."""

    patches: Patches
    parts: Split
    options: TrainOptions
    net: Any
    optimiser: Any
    device: str
    weights: NDArray[np.float32]


def fit(
    patches: Patches,
    model: str | Path,
    options: TrainOptions | None = None,
    progress: Progress | None = None,
) -> Card:
    """Train a model and write it, its card and a report.

    Parameters
    ----------
    patches : Patches
        From `sources.read_source`.
    model : path
        ``NAME.safetensors`` (the suffix may be left out); ``NAME.json`` and ``NAME.report.html``
        are written beside it, checkpoints to ``NAME.checkpoint`` while it runs.
    options : TrainOptions, optional
    progress : callable, optional
        Called with (stage, done, total, 0).

    Raises
    ------
    ManifestError
        With too few cases to part.
    """
    told = options or TrainOptions()
    path = weights_path(model)
    parts = split(patches, told.seed)
    torch.manual_seed(told.seed)
    device = choose(told.device)
    net = build(told.architecture, CHANNELS[told.channels], LOGITS, told.arguments)
    net = net.to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), told.rate, weight_decay=WEIGHT_DECAY)
    weights = _class_weights(patches.label[parts.train])
    bench = _Bench(patches, parts, told, net, optimiser, device, weights)
    checkpoint = Checkpoint(path.with_suffix(".checkpoint"), fingerprint(patches, told))
    state = checkpoint.load(net, optimiser) if told.resume else Progressed()
    state = _epochs(bench, checkpoint, state, progress)
    checkpoint.best(net)
    card = _finish(bench, state, path)
    checkpoint.drop()
    return card


def _epochs(
    bench: _Bench, checkpoint: Checkpoint, state: Progressed, progress: Progress | None
) -> Progressed:
    """Train until the last epoch, or until the validation part has not gained for a while."""
    told = bench.options
    while state.epoch < told.epochs and state.epoch - 1 - state.best_epoch < told.patience:
        loss = _one_epoch(bench, state.epoch, progress)
        held = bench.parts.validation
        logits = logits_of(bench.net, bench.patches, held, told.channels, bench.device)
        truth = bench.patches.label[held]
        found = metrics.summary(probabilities(logits), truth)
        state = state.with_epoch(
            {
                "train_loss": loss,
                "validation_loss": found["negative_log_likelihood"],
                "validation_accuracy": found["accuracy"],
                "validation_kappa": found["quadratic_kappa"] or 0.0,
            }
        )
        checkpoint.save(state, bench.net, bench.optimiser)
    return state


def _one_epoch(bench: _Bench, epoch: int, progress: Progress | None) -> float:
    """Pass over the training part once; return the mean -ln p(label) of its varied patches.

    Order and augmentation are drawn from (seed, epoch), so that a resumed run goes on the same.
    """
    told = bench.options
    rng = np.random.default_rng([told.seed, 7, epoch])
    torch.manual_seed(told.seed * 1_000_003 + epoch)
    bench.net.train()
    order = rng.permutation(bench.parts.train)
    steps = max(1, len(order) // told.batch)
    total = 0.0  # as the validation loss is: unweighted, so that both curves can be compared
    for step, rows in enumerate(np.array_split(order, steps)):
        _set_rate(bench.optimiser, told, (epoch + step / steps) / told.epochs)
        total += _step(bench, rows, rng) * len(rows)
        if progress is not None:
            progress("training", epoch * steps + step + 1, told.epochs * steps, 0.0)
    return total / len(order)


def _step(bench: _Bench, rows: NDArray[np.int64], rng: np.random.Generator) -> float:
    x = torch.from_numpy(batch_planes(bench.patches, rows, bench.options.channels, rng))
    x = x.to(bench.device, memory_format=torch.channels_last)
    labels = torch.from_numpy(bench.patches.label[rows]).to(bench.device)
    weights = torch.from_numpy(bench.weights[bench.patches.label[rows]]).to(bench.device)
    mixed = bench.device == "cuda"
    with torch.autocast(bench.device, torch.bfloat16, enabled=mixed):
        logits = bench.net(x)
    loss = corn_loss(logits.float(), labels, weights)
    bench.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(bench.net.parameters(), 2.0)
    bench.optimiser.step()
    seen = probabilities(logits.detach().float().cpu().numpy())
    return metrics.negative_log_likelihood(seen, bench.patches.label[rows])


def _set_rate(optimiser: Any, told: TrainOptions, share_done: float) -> None:
    """Set the learning rate: a straight rise, then half a cosine down to nearly nothing."""
    if share_done < WARM_UP:
        factor = 0.1 + 0.9 * share_done / WARM_UP
    else:
        factor = 0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * (share_done - WARM_UP) / (1 - WARM_UP)))
    for group in optimiser.param_groups:
        group["lr"] = told.rate * float(factor)


def _class_weights(labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return a weight a class: the root of its rarity, mean 1 over the patches.

    The full inverse would make probabilities speak for a population of equal classes.
    """
    counts = np.maximum(np.bincount(labels, minlength=CLASSES), 1)
    weight = np.sqrt(counts.sum() / counts)
    return np.asarray(weight / (weight * counts).sum() * counts.sum(), np.float32)


def logits_of(
    net: Any, patches: Patches, rows: NDArray[np.int64], channels: str, device: str
) -> NDArray[np.float32]:
    """Return the logits (n, 3) of some patches, as they are."""
    net.eval()
    found = [np.zeros((0, LOGITS), np.float32)]
    with torch.inference_mode():
        for some in np.array_split(rows, max(1, len(rows) // 128)):
            if len(some):
                x = torch.from_numpy(batch_planes(patches, some, channels))
                y = net(x.to(device, memory_format=torch.channels_last))
                found.append(y.float().cpu().numpy())
    return np.concatenate(found)


# -- what is written -------------------------------------------------------------------------------


def _finish(bench: _Bench, state: Progressed, path: Path) -> Card:
    """Calibrate on validation, measure on test, write weights, card and report."""
    told, patches, parts = bench.options, bench.patches, bench.parts
    held = logits_of(bench.net, patches, parts.validation, told.channels, bench.device)
    temperature = metrics.fit_temperature(held, patches.label[parts.validation])
    share = _fit_share(probabilities(held, temperature), patches, parts.validation)
    tested = logits_of(bench.net, patches, parts.test, told.channels, bench.device)
    p, truth = probabilities(tested, temperature), patches.label[parts.test]
    sha256 = save_arrays(path, net_state(bench.net))
    card = Card(
        name=told.name,
        version=told.version,
        sha256=sha256,
        architecture=told.architecture,
        arguments=told.arguments,
        parameters=sum(v.numel() for v in bench.net.parameters()),
        channels=told.channels,
        mpp=patches.window.mpp,
        patch_px=patches.window.patch_px,
        normalisation={
            "planes": "hematoxylin and DAB OD by the slide's stain vectors"
            if told.channels == "h_dab"
            else "red, green, blue OD against the white point",
            **NORMALISATION,
        },
        temperature=round(temperature, 6),
        share=share,
        guideline=told.guideline,
        training=_training_facts(bench, state),
        metrics={
            "test": metrics.summary(p, truth),
            "test_before_calibration": metrics.summary(probabilities(tested), truth),
            "test_cases": _case_metrics(p, patches, parts.test, share),
        },
        licence=told.licence,
        limits=told.limits,
    )
    write_text(path.with_suffix(".json"), card.json_text())
    write_report(path.with_suffix(".report.html"), card, state.history, p, truth)
    return card


def _training_facts(bench: _Bench, state: Progressed) -> dict[str, Any]:
    patches, parts = bench.patches, bench.parts

    def part(rows: NDArray[np.int64]) -> dict[str, Any]:
        counts = np.bincount(patches.label[rows], minlength=CLASSES)
        return {
            "patches": len(rows),
            "cases": len(np.unique(patches.case[rows])),
            "scanners": len(np.unique(patches.scanner[rows])),
            "classes": dict(zip(SCORES, counts.tolist(), strict=True)),
        }

    told = asdict(bench.options)
    return {
        "data": patches.source,
        "train": part(parts.train),
        "validation": part(parts.validation),
        "test": part(parts.test),
        "test_scanners_unseen": parts.unseen_scanners,
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
        "options": {k: told[k] for k in ("epochs", "batch", "patience", "rate", "seed")},
        "made_with": {
            "her2path": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
            "device": bench.device,
        },
    }


def _by_case(
    p: NDArray[np.float64], patches: Patches, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return mean probabilities and true scores of the cases whose score is known."""
    known = [c for c in np.unique(patches.case[rows]) if str(c) in patches.case_score]
    mean = [p[patches.case[rows] == c].mean(axis=0) for c in known]
    truth = [patches.case_score[str(c)] for c in known]
    return np.array(mean).reshape(len(known), CLASSES), np.array(truth, np.int64)


def _fit_share(p: NDArray[np.float64], patches: Patches, rows: NDArray[np.int64]) -> float:
    """Return the share for which held-out cases agree best with their known scores."""
    mean, truth = _by_case(p, patches, rows)
    if len(truth) < ENOUGH_CASES:
        return SHARES[0]
    kappa = [
        metrics.quadratic_kappa(metrics.confusion(truth, decide(mean, s))) or 0.0 for s in SHARES
    ]
    return SHARES[int(np.argmax(kappa))]


def _case_metrics(
    p: NDArray[np.float64], patches: Patches, rows: NDArray[np.int64], share: float
) -> dict[str, Any] | None:
    mean, truth = _by_case(p, patches, rows)
    if not len(truth):
        return None
    table = metrics.confusion(truth, decide(mean, share))
    kappa = metrics.quadratic_kappa(table)
    return {
        "cases": len(truth),
        "accuracy": round(float(np.trace(table) / table.sum()), 4),
        "quadratic_kappa": None if kappa is None else round(kappa, 4),
        "confusion": table.tolist(),
    }
