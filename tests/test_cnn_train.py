"""Training: it learns, stops, goes on where it was, and says how it did."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from cnn_samples import MIXTURES, RECIPE, noise_patches, patches, spec
from cohort_samples import command

from her2path import cnn
from her2path.cli.app import _guarded
from her2path.cnn import metrics
from her2path.cnn.ordinal import corn_loss
from her2path.cnn.registry import build
from her2path.cnn.train import _class_weights
from her2path.cnn.weights import load_arrays
from her2path.core.errors import ManifestError, UsageError
from her2path.core.schema import SCORES
from her2path.phantom import make_files, make_phantom


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_two_hundred_patches_teach_it(tmp_path: Path) -> None:
    learnt = patches()
    assert 150 <= len(learnt) <= 240
    begun = time.process_time()  # a busy machine must not decide
    options = cnn.TrainOptions(
        architecture="tiny", epochs=16, batch=16, patience=16, rate=6e-3, device="cpu"
    )
    card = cnn.fit(learnt, tmp_path / "m", options)
    assert time.process_time() - begun < 60
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


def test_a_killed_command_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = ["image,label,case_id,scanner,mpp"]
    for i in range(24):
        rgb = rng.integers(80, 240, (64, 64, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}.png"), rgb)
        rows.append(f"{i}.png,{SCORES[i % 4]},c{i // 3},s{i // 3 % 4},0.5")
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")

    def words(name: str) -> list[str]:
        return command(
            "train", tmp_path / "m.csv", "-o", tmp_path / name, "--arch", "tiny", "--epochs", 5,
            "--patch-px", 64, "--batch", 4, "--device", "cpu", "--json", "--quiet",
        )  # fmt: skip

    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    begun = subprocess.Popen(words("killed"), stdout=subprocess.DEVNULL, env=env)
    state = tmp_path / "killed.checkpoint" / "state.json"
    while begun.poll() is None and not state.is_file():
        time.sleep(0.005)
    begun.kill()
    assert begun.wait() == -9
    assert state.is_file()
    assert not (tmp_path / "killed.safetensors").exists()
    cards = []
    for name in ("killed", "whole"):
        done = subprocess.run(words(name), capture_output=True, text=True, check=True, env=env)
        cards.append(json.loads(done.stdout))
    assert cards[0]["sha256"] == cards[1]["sha256"]
    assert cards[0]["metrics"] == cards[1]["metrics"]
    assert not state.exists()


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


def test_a_rare_class_counts_more() -> None:
    weight = _class_weights(np.repeat([0, 1, 2, 3], [90, 40, 40, 10]))
    np.testing.assert_allclose(weight[3] / weight[0], 3.0, rtol=1e-5)
    assert weight[0] < weight[1] == weight[2] < weight[3]
    np.testing.assert_allclose((weight * [90, 40, 40, 10]).sum() / 180, 1.0, rtol=1e-5)
    without = _class_weights(np.array([0, 0, 3]))
    assert np.isfinite(without).all()


def test_another_seed_is_another_model(tmp_path: Path) -> None:
    told = cnn.TrainOptions(architecture="tiny", epochs=1, batch=16, device="cpu")
    one, same, other = (
        cnn.fit(noise_patches(), tmp_path / n, replace(told, seed=s))
        for n, s in (("a", 3), ("b", 3), ("c", 4))
    )
    assert one.sha256 == same.sha256 != other.sha256
    assert one.model_dump(exclude={"name"}) == same.model_dump(exclude={"name"})


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
        noise_patches(),
        tmp_path / "m",
        cnn.TrainOptions(architecture="flat", epochs=1, channels="od", device="cpu"),
    )
    assert card.parameters == 12
    assert set(load_arrays(tmp_path / "m.safetensors")) == {"head.weight", "head.bias"}
    assert cnn.Scorer.load(tmp_path / "m", device="cpu").card == card
    with pytest.raises(UsageError, match="Valid: small"):
        cnn.fit(noise_patches(), tmp_path / "n", cnn.TrainOptions(architecture="resnet"))


def test_networks_of_installed_packages_are_known(tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "site" / "theirs-1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[her2path.networks]\nlarge = theirs:make\n")
    (tmp_path / "site" / "theirs.py").write_text(
        "from her2path.cnn.nets import ResidualNet\n"
        "def make(channels, outputs):\n"
        "    return ResidualNet(channels, outputs, (8, 16), (1, 1))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert "large" in cnn.architectures()
    told = cnn.TrainOptions(architecture="large", epochs=1, device="cpu")
    card = cnn.fit(noise_patches(), tmp_path / "m", told)
    x = np.full((2, 32, 32, 3), 200, np.uint8)
    scorer = cnn.Scorer.load(tmp_path / "m", device="cpu")
    found = scorer.score_patches(x, noise_patches().stains[0])
    assert found.shape == (2, 4)
    assert card.architecture == "large"


def test_a_larger_backbone_takes_arguments(tmp_path: Path) -> None:
    whole = build("residual", 2, 3)
    assert 10e6 < sum(v.numel() for v in whole.parameters()) < 12e6
    told = cnn.TrainOptions(
        architecture="residual", arguments={"widths": [8, 16], "depths": [1, 1]}, epochs=1,
        device="cpu",
    )  # fmt: skip
    card = cnn.fit(noise_patches(), tmp_path / "m", told)
    assert card.arguments == {"widths": [8, 16], "depths": [1, 1]}
    assert cnn.read_card(tmp_path / "m.json") == card
    assert cnn.Scorer.load(tmp_path / "m", device="cpu").card.parameters == card.parameters
    for name, most in (("tiny", 1e5), ("small", 1e6), ("medium", 1e6)):
        assert sum(v.numel() for v in build(name, 2, 3).parameters()) < most
    with pytest.raises(UsageError, match="cannot be built"):
        build("residual", 2, 3, {"wide": 3})


def test_the_command_trains_from_phantoms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(4):
        make_files(spec(seed, MIXTURES[seed]), tmp_path / "phantoms" / f"p{seed}")
    args = [
        "train",
        str(tmp_path / "phantoms"),
        "-o",
        str(tmp_path / "m"),
        "--arch",
        "tiny",
        "--epochs",
        "1",
        "--patch-px",
        "96",
        "--per-slide",
        "10",
        "--batch",
        "8",
        "--json",
    ]
    assert _guarded(args, False) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["patch_px"] == 96
    assert card["training"]["train"]["cases"] + card["training"]["test"]["cases"] < 5
    assert cnn.check_model(tmp_path / "m")[1].sha256 == card["sha256"]
    assert _guarded(args, False) == 2
    assert "exists" in capsys.readouterr().err
    # what is wrong is said before anything is read
    for more, words in (
        (["--arch", "resnet50"], "Valid: small"), (["--device", "tpu"], "Valid: auto"),
        (["--labels", "slides"], "Valid: cells"), (["-o", str(tmp_path / "x.pt")], "safetensors"),
    ):  # fmt: skip
        assert _guarded(["train", "nowhere", "-o", str(tmp_path / "x"), *more], False) == 2
        assert words in capsys.readouterr().err


def test_one_case_is_not_enough(tmp_path: Path) -> None:
    one = make_phantom(spec(0, "2+"))
    few = cnn.from_phantom_pixels(one.rgb, 0.5, one.truth, ("a", "b"), RECIPE)
    with pytest.raises(ManifestError, match="3 are the least"):
        cnn.fit(few, tmp_path / "m")
