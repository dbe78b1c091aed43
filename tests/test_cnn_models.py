"""Models on disk, the shipped one, inference, and life without torch."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from cnn_samples import model, patches, spec

from her2path import cnn
from her2path.cells.analysis import Optics
from her2path.cells.stain import StainModel, estimate
from her2path.cnn import engine, infer
from her2path.cnn.device import batch_for
from her2path.cnn.ordinal import probabilities
from her2path.cnn.patches import cut, planes
from her2path.cnn.registry import build
from her2path.cnn.weights import builtin_path, load_arrays
from her2path.core.errors import InputError, MissingExtra, ProgramFault, UsageError
from her2path.core.geometry import Box
from her2path.core.results import Score
from her2path.core.schema import CNN_CELLS, CNN_REGIONS, SCORES
from her2path.core.settings import CnnSettings, Settings
from her2path.phantom import TUMOURS, make_phantom, random_spec
from her2path.runs.case.cnn_review import PATCHES_PER_REGION, region_features, review_by_cnn

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
STAIN = StainModel((243.0, 243.0, 242.0), (0.65, 0.70, 0.29), (0.27, 0.57, 0.78))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    model(path)
    return path


def _copy(trained: Path, folder: Path) -> Path:
    for suffix in (".safetensors", ".json"):
        shutil.copy(trained.with_suffix(suffix), folder / f"m{suffix}")
    return folder / "m.safetensors"


# -- files -----------------------------------------------------------------------------------------


def test_pickles_are_refused_by_name_and_by_content(trained: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return (Path.write_text, (tmp_path / "owned", "x"))

    torch.save({"a": torch.ones(2)}, tmp_path / "m.pt")
    (tmp_path / "z.safetensors").write_bytes((tmp_path / "m.pt").read_bytes())
    (tmp_path / "p.safetensors").write_bytes(pickle.dumps(Evil()))
    for protocol in (0, 1, 2):
        (tmp_path / f"p{protocol}.safetensors").write_bytes(pickle.dumps(Evil(), protocol))
    torch.save(Evil(), tmp_path / "old.safetensors", _use_new_zipfile_serialization=False)
    # a true header, and a pickle where the weights should be
    header = json.dumps({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    behind = len(header).to_bytes(8, "little") + header + pickle.dumps(Evil())
    (tmp_path / "behind.safetensors").write_bytes(behind)
    for path in sorted(p for p in tmp_path.iterdir() if p.suffix in (".pt", ".safetensors")):
        shutil.copy(trained.with_suffix(".json"), path.with_suffix(".json"))
        with pytest.raises((UsageError, InputError), match=r"safetensors|not those of their card"):
            cnn.Scorer.load(path)
        with pytest.raises((UsageError, InputError)):
            load_arrays(path)
    assert not (tmp_path / "owned").exists()


def test_weights_of_another_card_are_refused(trained: Path, tmp_path: Path) -> None:
    path = _copy(trained, tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="not those of their card"):
        cnn.Scorer.load(path)


def test_damaged_files_are_one_line_errors(trained: Path, tmp_path: Path) -> None:
    path = _copy(trained, tmp_path)
    good = json.loads(path.with_suffix(".json").read_text())
    for change in ({"classes": ["0", "1"]}, {"mpp": 9.0}, {"extra": 1}, {"sha256": "no"}):
        path.with_suffix(".json").write_text(json.dumps({**good, **change}))
        with pytest.raises(InputError, match="is not a model card"):
            cnn.Scorer.load(path)
    path.with_suffix(".json").write_text(json.dumps({**good, "architecture": "small"}))
    with pytest.raises(InputError, match="do not fit"):
        cnn.Scorer.load(path, device="cpu")
    path.with_suffix(".json").unlink()
    with pytest.raises(InputError, match="keep them together"):
        cnn.Scorer.load(path)
    path.write_bytes(b"\x10\0\0\0\0\0\0\0not json at all!")
    with pytest.raises(InputError, match="no safetensors"):
        cnn.Scorer.load(path)
    with pytest.raises(UsageError, match="builtin"):
        cnn.Scorer.load(tmp_path / "nothing")


# -- inference -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def field() -> tuple[np.ndarray, np.ndarray]:
    """Return a phantom's pixels and its tumour cells' positions, px."""
    one = make_phantom(spec(5, "2+"))
    keep = np.array(one.truth["cell_type"].to_pylist()) == "tumour"
    xy = np.stack([one.truth["x_um"].to_numpy(), one.truth["y_um"].to_numpy()], axis=1)[keep] / 0.5
    return one.rgb, xy[:40]


def _reader(rgb: np.ndarray):
    def read(box: Box) -> np.ndarray:
        ys = np.clip(np.arange(box.y0, box.y1), 0, rgb.shape[0] - 1)
        xs = np.clip(np.arange(box.x0, box.x1), 0, rgb.shape[1] - 1)
        return rgb[ys[:, None], xs]

    return read


def test_points_are_scored_the_same_in_any_batch_and_order(trained: Path, field) -> None:
    rgb, xy = field
    p = cnn.Scorer.load(trained, "cpu", 64).score_points(_reader(rgb), xy, 0.5, STAIN)
    assert p.dtype == np.float32
    assert p.shape == (len(xy), 4)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=5e-4)
    order = np.random.default_rng(0).permutation(len(xy))
    other = cnn.Scorer.load(trained, "cpu", 7).score_points(_reader(rgb), xy[order], 0.5, STAIN)
    np.testing.assert_allclose(other, p[order], atol=2e-4)


def test_a_coarse_slide_is_refused(trained: Path, field) -> None:
    with pytest.raises(InputError, match="made for 0\\.5"):
        cnn.Scorer.load(trained, "cpu").score_points(_reader(field[0]), field[1], 1.0, STAIN)


def test_features_come_out(trained: Path, field) -> None:
    scorer = cnn.Scorer.load(trained, "cpu")
    found = scorer.embed(_reader(field[0]), field[1], 0.5, STAIN)
    assert found.shape == (len(field[1]), 192)
    assert found.std(axis=0).max() > 0
    none = np.zeros((0, 2))
    assert scorer.embed(_reader(field[0]), none, 0.5, STAIN).shape == (0, 192)
    assert scorer.score_points(_reader(field[0]), none, 0.5, STAIN).shape == (0, 4)


class Tight:
    """An engine with memory for so many patches; notes the sizes that it was given."""

    def __init__(self, inside: engine.Engine, most: int, words: str) -> None:
        self.inside, self.most, self.words, self.sizes = inside, most, words, []
        self.name, self.precision = inside.name, inside.precision

    def run(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise RuntimeError(self.words)
        return self.inside.run(x)


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 2 GiB",
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried",
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested",
    ],
)
def test_too_little_memory_means_smaller_batches(trained: Path, field, words: str) -> None:
    rgb, xy = field
    scorer = cnn.Scorer.load(trained, "cpu", 32)
    want = scorer.look(_reader(rgb), xy, 0.5, STAIN)
    scorer.engine = tight = Tight(scorer.engine, 5, words)
    got = scorer.look(_reader(rgb), xy, 0.5, STAIN)
    np.testing.assert_allclose(got.p, want.p, atol=2e-4)
    np.testing.assert_allclose(got.features, want.features, atol=1e-4)
    assert scorer.batch == 4
    assert [n for n in dict.fromkeys(tight.sizes) if n >= 4] == [32, 16, 8, 4]
    scorer.engine = Tight(tight.inside, 0, words)
    with pytest.raises(ProgramFault, match="too little memory"):
        scorer.score_points(_reader(rgb), xy, 0.5, STAIN)
    scorer.engine = Tight(tight.inside, 0, "a shape is wrong")
    with pytest.raises(RuntimeError, match="a shape is wrong"):
        scorer.score_points(_reader(rgb), xy, 0.5, STAIN)


@pytest.mark.parametrize(
    ("free", "asked", "want"),
    [(80e9, None, 1024), (80e9, 64, 64), (2e8, None, 23), (2e8, 64, 23), (1e4, 64, 1)],
)
def test_a_batch_is_as_large_as_the_gpu_allows(
    monkeypatch: pytest.MonkeyPatch, free: float, asked: int | None, want: int
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, 80e9))
    assert batch_for("cuda", asked, 128) == want
    assert batch_for("cpu", asked, 128) == (asked or 64)


# -- how it runs -----------------------------------------------------------------------------------


class Timed:
    """An engine that takes so many seconds of a clock of its own."""

    clock = 0.0

    def __init__(self, seconds: float) -> None:
        self.name, self.precision, self.seconds = "timed", str(seconds), seconds

    def run(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        Timed.clock += self.seconds
        return x, x


@pytest.mark.parametrize(("quick", "chosen"), [(0.5, "0.5"), (0.95, "1.0"), (3.0, "1.0")])
def test_bf16_is_taken_only_where_it_is_timed_to_help(quick: float, chosen: str) -> None:
    found = engine.faster(Timed(1.0), Timed(quick), np.zeros(1), lambda: Timed.clock)
    assert found.precision == chosen


def test_precision_is_full_unless_asked_for(trained: Path, field) -> None:
    rgb, xy = field
    exact = cnn.Scorer.load(trained, "cpu", runtime="torch")
    assert exact.engine.precision == "fp32"
    half = cnn.Scorer.load(trained, "cpu", precision="bf16")
    assert (half.engine.name, half.engine.precision) == ("torch", "bf16")
    a = exact.score_points(_reader(rgb), xy, 0.5, STAIN)
    b = half.score_points(_reader(rgb), xy, 0.5, STAIN)
    assert 0 < np.abs(a - b).max() < 0.02
    timed = cnn.Scorer.load(trained, "cpu", precision="auto", runtime="torch")
    assert timed.engine.precision in ("fp32", "bf16")


def test_onnx_runtime_says_the_same(trained: Path, field) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    rgb, xy = field
    plain = cnn.Scorer.load(trained, "cpu", runtime="torch")
    quick = cnn.Scorer.load(trained, "cpu", 7)
    assert (plain.engine.name, quick.engine.name) == ("torch", "onnxruntime")
    a, b = (s.look(_reader(rgb), xy, 0.5, STAIN) for s in (plain, quick))
    np.testing.assert_allclose(a.p, b.p, atol=2e-4)
    np.testing.assert_allclose(a.features, b.features, atol=1e-4)


def test_wrong_words_about_running_are_refused(trained: Path, monkeypatch) -> None:
    with pytest.raises(UsageError, match="Runtimes: auto, torch, onnxruntime"):
        cnn.Scorer.load(trained, "cpu", runtime="tensorrt")
    with pytest.raises(UsageError, match="precisions: fp32, bf16, auto"):
        cnn.Scorer.load(trained, "cpu", precision="int8")
    with pytest.raises(UsageError, match="on the CPU in fp32"):
        cnn.Scorer.load(trained, "cpu", precision="bf16", runtime="onnxruntime")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"her2path\[onnx\]"):
        cnn.Scorer.load(trained, "cpu", runtime="onnxruntime")


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with cnn.limited_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_a_device_that_is_not_there_is_refused(trained: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no CUDA device"):
        cnn.Scorer.load(trained, "cuda")
    with pytest.raises(UsageError, match="auto, cpu, cuda"):
        cnn.Scorer.load(trained, "tpu")
    assert cnn.Scorer.load(trained, "auto").device == "cpu"
    assert cnn.device_name() is None


@pytest.mark.parametrize(
    ("device", "precision", "tolerance"),
    [("cpu", "fp32", 2e-4), pytest.param("cuda", "fp32", 2e-3, marks=GPU),
     pytest.param("cuda", "bf16", 3e-2, marks=GPU)],
)  # fmt: skip
def test_every_device_agrees_with_plain_double_precision(
    trained: Path, field, device: str, precision: str, tolerance: float
) -> None:
    rgb, xy = field
    _, card = cnn.check_model(trained)
    net = build(card.architecture, 2, 3).double().eval()
    infer.load_state(net, load_arrays(trained), trained)
    cut_out = np.zeros((len(xy), 96, 96, 3), np.uint8)
    for rows, pixels in cut(_reader(rgb), xy, 0.5, cnn.Window(96, 0.5)):
        cut_out[rows] = pixels
    with torch.inference_mode():
        logits = net(torch.from_numpy(planes(cut_out, STAIN, "h_dab")).double()).numpy()
    want = probabilities(logits, card.temperature)
    scorer = cnn.Scorer.load(trained, device, precision=precision)
    assert scorer.device == device
    got = scorer.score_points(_reader(rgb), xy, 0.5, STAIN)
    np.testing.assert_allclose(got, want, atol=tolerance)


@GPU
def test_a_gpu_trains_with_mixed_precision(tmp_path: Path) -> None:
    told = cnn.TrainOptions(architecture="tiny", epochs=8, batch=16, rate=6e-3, device="cuda")
    card = cnn.fit(patches(), tmp_path / "m", told)
    assert card.training["made_with"]["device"] == "cuda"
    assert card.metrics["test"]["quadratic_kappa"] > 0.4


# -- the shipped model -----------------------------------------------------------------------------


def test_the_shipped_model_is_whole_small_and_honest() -> None:
    path, card = cnn.check_model("builtin")
    assert path.stat().st_size < 4 << 20
    assert card.licence == "Apache-2.0"
    assert "second look" in card.intended_use
    assert any("synthetic" in limit for limit in card.limits)
    assert {
        "unseen_phantoms",
        "random_phantoms",
        "unseen_drawings",
        "generator_never_trained_on",
        "real_cores",
    } <= set(card.metrics)
    assert card.parameters < 1_000_000
    assert card.training["test_scanners_unseen"]


def _phantom(mixture: str, seed: int):
    one = make_phantom(
        random_spec(
            seed,
            width_um=200.0,
            height_um=200.0,
            margin_um=5.0,
            layout="homogeneous",
            strength=1.0,
            mixture=TUMOURS[mixture],
            second={},
            second_fraction=0.0,
            tumour_share=0.8,
            mpp=0.25,
        )
    )
    mine = one.truth.filter(pa.array([t == "tumour" for t in one.truth["cell_type"].to_pylist()]))
    n = mine.num_rows
    x, y = mine["x_um"].to_numpy() / 0.25, mine["y_um"].to_numpy() / 0.25
    table = pa.table(
        {
            "cell_id": mine["cell_index"],
            "x_px": x.astype(np.float32),
            "y_px": y.astype(np.float32),
            "region_id": pa.array((np.arange(n) % 2).astype(np.int32)),
        }
    )
    stain = estimate([one.rgb], 0.25, Settings().stain)
    return one.rgb, table, Optics(0.25, 2, stain)


REGIONS = pa.table({"region_id": pa.array([0, 1, 2], pa.int32()), "tumour_cells": [50, 50, 0]})


def _rules(ihc: str, guideline: str = "asco_cap_2018") -> Score:
    return Score(
        guideline=guideline, ihc=ihc, substate=None, rule="", trace=(), flags=(), category="x"
    )


def test_the_shipped_model_orders_phantoms_that_it_never_saw() -> None:
    mean = []
    for k, mixture in enumerate(("unstained", "1+", "2+", "3+")):
        rgb, cells, optics = _phantom(mixture, 81_000 + k)
        look = review_by_cnn(
            _reader(rgb), cells, REGIONS, optics, CnnSettings(model="builtin", device="cpu"), None
        )
        assert look.result.probability is not None
        mean.append(sum(SCORES.index(s) * p for s, p in look.result.probability.items()))
    assert np.all(np.diff(mean) > 0.15), mean
    assert mean[0] < 0.65
    assert mean[3] > 2.3


def test_the_second_look_stands_beside_the_score(trained: Path) -> None:
    rgb, cells, optics = _phantom("2+", 82_000)
    told = CnnSettings(model=str(trained), device="cpu")
    ticks = []
    look = review_by_cnn(
        _reader(rgb),
        cells,
        REGIONS,
        optics,
        told,
        _rules("3+"),
        lambda _s, done, total, _m: ticks.append((done, total)),
    )
    assert ticks[-1] == (cells.num_rows, cells.num_rows)
    assert look.model_sha256 == cnn.check_model(trained)[1].sha256
    assert look.regions.column_names == [c.name for c in CNN_REGIONS]
    assert look.cells.column_names == [c.name for c in CNN_CELLS]
    assert look.cells.num_rows == cells.num_rows
    assert look.regions["cnn_score"].to_pylist()[2] is None
    assert look.regions["cnn_p0"].null_count == 1
    assert look.result.agrees == (look.result.score == "3+")
    assert (look.result.flag == cnn.DISAGREES) == (look.result.score != "3+")
    other = review_by_cnn(
        _reader(rgb), cells, REGIONS, optics, told, _rules("3+", "gastric_resection")
    )
    assert "gastric_resection" in other.result.note
    # with many cells a cell carries its region's value, and the regions stay the same
    told = told.model_copy(update={"cells": 10})
    ticks.clear()
    many = review_by_cnn(
        _reader(rgb),
        cells,
        REGIONS,
        optics,
        told,
        _rules("3+"),
        lambda _s, done, total, _m: ticks.append((done, total)),
    )
    assert ticks[-1][1] == 2 * PATCHES_PER_REGION
    for name in ("cnn_p0", "cnn_p3"):
        np.testing.assert_allclose(
            many.regions[name].to_numpy()[:2], look.regions[name].to_numpy()[:2], atol=2e-4
        )
        got = many.cells[name].to_numpy()[:2]
        np.testing.assert_allclose(got, many.regions[name].to_numpy()[:2], atol=1e-6)


def test_regions_have_features(trained: Path) -> None:
    rgb, cells, optics = _phantom("2+", 82_000)
    told = CnnSettings(model=str(trained), device="cpu")
    found = region_features(_reader(rgb), cells, REGIONS, optics, told)
    assert found["region_id"].to_pylist() == [0, 1, 2]
    first, second, none = found["features"].to_pylist()
    assert none is None
    assert len(first) == len(second) == 192
    assert first != second


# -- without torch ---------------------------------------------------------------------------------


def test_without_torch_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "her2path.cnn._torch", raising=False)
    with pytest.raises(MissingExtra, match=r"pip install 'her2path\[cnn\]'"):
        cnn.Scorer.load("builtin")
    from her2path.cli.app import _guarded

    assert _guarded(["train", "x.csv", "-o", "m"], False) == 2


def test_the_package_imports_without_torch_and_does_not_import_it() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from her2path import cnn\n"
        "import her2path.runs.case.cnn_review\n"
        "print(cnn.check_model('builtin')[1].name, cnn.device_name())\n"
        "del sys.modules['torch']\n"
        "cnn.architectures(); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["builtin", "None"]


def test_the_shipped_card_lies_beside_the_weights() -> None:
    assert builtin_path().with_suffix(".json").is_file()
