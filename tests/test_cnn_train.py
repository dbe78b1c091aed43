"""Training: it learns, stops, goes on where it was, and says how it did."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from cnn_samples import MIXTURES, RECIPE, noise_patches, patches, spec

from her2path import cnn
from her2path.cli.app import _guarded
from her2path.cnn import metrics
from her2path.cnn.ordinal import corn_loss
from her2path.cnn.weights import load_arrays
from her2path.errors import ManifestError, UsageError
from her2path.phantom import make_files, make_phantom


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_two_hundred_patches_teach_it(tmp_path: Path) -> None:
    learnt = patches()
    assert 150 <= len(learnt) <= 240
    begun = time.monotonic()
    options = cnn.TrainOptions(
        architecture="tiny", epochs=16, batch=16, patience=16, rate=6e-3, device="cpu"
    )
    card = cnn.fit(learnt, tmp_path / "m", options)
    assert time.monotonic() - begun < 60
    held = card.metrics["test"]
    assert card.training["test_scanners_unseen"]
    assert held["patches"] >= 20
    assert held["accuracy"] >= 0.55  # four classes: chance is 0.25 to 0.35
    assert held["quadratic_kappa"] >= 0.6
    scorer = cnn.Scorer.load(tmp_path / "m", device="cpu")
    p, truth = [], []
    for seed in range(60, 64):  # cases that no part of the training saw
        one = make_phantom(spec(seed, MIXTURES[seed % 4]))
        fresh = cnn.from_phantom_pixels(one.rgb, 0.5, one.truth, ("x", "y"), RECIPE)
        p.append(scorer.score_patches(fresh.rgb, fresh.stains[0]))
        truth.append(fresh.label)
    table = metrics.confusion(np.concatenate(truth), np.concatenate(p).argmax(axis=1))
    assert metrics.quadratic_kappa(table) > 0.5
    page = (tmp_path / "m.report.html").read_text()
    assert page.count("data:image/png") == 3
    assert card.sha256 in page
    assert not (tmp_path / "m.checkpoint").exists()


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    told = cnn.TrainOptions(architecture="tiny", epochs=4, batch=16, device="cpu")
    whole = cnn.fit(noise_patches(), tmp_path / "whole", told)
    steps = []

    def stop(stage: str, done: int, total: int, _: float) -> None:
        steps.append(done)
        if done > total * 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cnn.fit(noise_patches(), tmp_path / "again", told, stop)
    kept = sorted(p.name for p in (tmp_path / "again.checkpoint").iterdir())
    assert kept == ["best.safetensors", "epoch0002.safetensors", "state.json"]
    steps.clear()
    again = cnn.fit(
        noise_patches(), tmp_path / "again", told, lambda _s, done, _t, _m: steps.append(done)
    )
    assert min(steps) > 4  # it did not begin again
    assert again.sha256 == whole.sha256
    assert again.metrics == whole.metrics


def test_another_run_does_not_take_the_checkpoint(tmp_path: Path) -> None:
    told = cnn.TrainOptions(architecture="tiny", epochs=2, batch=16, device="cpu")

    def stop(stage: str, done: int, total: int, _: float) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cnn.fit(noise_patches(), tmp_path / "m", told, stop)
    other = cnn.TrainOptions(architecture="tiny", epochs=2, batch=16, device="cpu", seed=1)
    mixed = cnn.fit(noise_patches(), tmp_path / "m", other)
    clean = cnn.fit(noise_patches(), tmp_path / "clean", other)
    assert mixed.sha256 == clean.sha256


def test_it_stops_when_nothing_is_gained(tmp_path: Path) -> None:
    told = cnn.TrainOptions(architecture="tiny", epochs=60, batch=16, patience=2, device="cpu")
    card = cnn.fit(noise_patches(), tmp_path / "m", told)
    assert card.training["epochs"] < 60
    assert card.training["epochs"] == card.training["best_epoch"] + 3


def test_the_loss_asks_only_questions_that_are_reached() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    corn_loss(logits, torch.tensor([0, 3]), torch.ones(2)).backward()
    assert logits.grad is not None
    assert (logits.grad[0] > 0).tolist() == [True, False, False]
    assert (logits.grad[1] < 0).all()


def test_any_network_can_be_registered(tmp_path: Path) -> None:
    class Flat(torch.nn.Module):
        def __init__(self, channels: int, outputs: int) -> None:
            super().__init__()
            self.head = torch.nn.Linear(channels, outputs)

        def features(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(dim=(2, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.features(x))

    cnn.register("flat", Flat)
    card = cnn.fit(
        noise_patches(), tmp_path / "m",
        cnn.TrainOptions(architecture="flat", epochs=1, channels="od", device="cpu"),
    )
    assert card.parameters == 12
    assert set(load_arrays(tmp_path / "m.safetensors")) == {"head.weight", "head.bias"}
    assert cnn.Scorer.load(tmp_path / "m", device="cpu").card == card
    with pytest.raises(UsageError, match="Valid: small"):
        cnn.fit(noise_patches(), tmp_path / "n", cnn.TrainOptions(architecture="resnet"))


def test_the_command_trains_from_phantoms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(4):
        make_files(spec(seed, MIXTURES[seed]), tmp_path / "phantoms" / f"p{seed}")
    args = ["train", str(tmp_path / "phantoms"), "-o", str(tmp_path / "m"), "--arch", "tiny",
            "--epochs", "1", "--patch-px", "96", "--per-slide", "10", "--batch", "8", "--json"]
    assert _guarded(args, False) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["patch_px"] == 96
    assert card["training"]["train"]["cases"] + card["training"]["test"]["cases"] < 5
    assert cnn.check_model(tmp_path / "m")[1].sha256 == card["sha256"]
    assert _guarded(args, False) == 2
    assert "exists" in capsys.readouterr().err


def test_one_case_is_not_enough(tmp_path: Path) -> None:
    one = make_phantom(spec(0, "2+"))
    few = cnn.from_phantom_pixels(one.rgb, 0.5, one.truth, ("a", "b"), RECIPE)
    with pytest.raises(ManifestError, match="3 are the least"):
        cnn.fit(few, tmp_path / "m")
