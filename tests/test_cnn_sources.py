"""Where training patches come from, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from cnn_samples import RECIPE as WIDE
from cnn_samples import spec
from fake_run import make_run

from her2path import cnn
from her2path.cnn.labels import TumourCells, label_patches
from her2path.core.errors import AnnotationError, InputError, ManifestError, OutputError
from her2path.core.schema import PATTERNS, SCORES
from her2path.io.corrections import Correction
from her2path.phantom import make_files
from her2path.runs.case.rescore import rescore

#: small patches, for images whose content does not matter
RECIPE = cnn.Recipe(window=cnn.Window(64, 0.5), per_slide=10)


def image(path: Path, side: int = 130, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.random.default_rng(seed).integers(120, 240, (side, side, 3)).astype(np.uint8)
    cv2.imwrite(str(path), rgb)


def test_a_manifest_of_images(tmp_path: Path) -> None:
    for i in range(3):
        image(tmp_path / f"i{i}.png", 140, i)
    (tmp_path / "m.csv").write_text(
        "image,label,case_id,scanner,mpp\ni0.png,0,a,s1,0.5\ni1.png,2+,a,s1,0.25\n"
        "i2.png,3+,b,s2,0.5\n"
    )
    found = cnn.read_source(tmp_path / "m.csv", RECIPE)
    assert found.rgb.shape[1:] == (64, 64, 3)
    assert found.case.tolist() == ["a"] * 5 + ["b"] * 4
    assert found.label.tolist() == [0] * 4 + [2] + [3] * 4
    assert set(found.scanner[5:]) == {"s2"}
    assert len(found.stains) == 2


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("image,label,case_id\nx.png,1+,a", "row 2: there is no"),
        ("image,label,case_id\ni.png,4+,a", "row 2: label '4\\+' is no score"),
        ("image,label,case_id\ni.png,1+,", "row 2: case_id is empty"),
        ("image,label,case_id,mpp\ni.png,1+,a,wide", "row 2: mpp 'wide'"),
        ("image,results,label,case_id\ni.png,i.png,1+,a", "one of image and results"),
        ("image,label,case_id\ni.png,1+,a", "pixel size .* is not known"),
        ("slide,label\ni.png,1+", "neither a column image nor results"),
        ("image,label,case_id,mpp", "nothing to train on"),
    ],
)
def test_a_wrong_manifest_names_the_row(tmp_path: Path, rows: str, words: str) -> None:
    image(tmp_path / "i.png")
    (tmp_path / "m.csv").write_text(rows + "\n")
    with pytest.raises(ManifestError, match=words):
        cnn.read_source(tmp_path / "m.csv", RECIPE)


@pytest.mark.parametrize(
    ("mpp", "side", "words"), [(0.9, 300, "made for 0"), (0.25, 100, "less than")]
)
def test_images_that_do_not_fit_are_refused(
    tmp_path: Path, mpp: float, side: int, words: str
) -> None:
    image(tmp_path / "i.png", side)
    (tmp_path / "m.csv").write_text(f"image,label,case_id,mpp\ni.png,1+,a,{mpp}\n")
    with pytest.raises(InputError, match=words):
        cnn.read_source(tmp_path / "m.csv", RECIPE)


def test_class_folders_say_whose_images_they_are(tmp_path: Path) -> None:
    image(tmp_path / "0" / "anna" / "1.png")
    image(tmp_path / "3+" / "bob__7.png")
    recipe = cnn.Recipe(cnn.Window(64, 0.5), mpp=0.5)
    found = cnn.read_source(tmp_path, recipe)
    labels = dict(zip(found.case.tolist(), found.label.tolist(), strict=True))
    assert labels == {"anna": 0, "bob": 3}
    image(tmp_path / "3+" / "nobody.png")
    with pytest.raises(ManifestError, match="does not say whose"):
        cnn.read_source(tmp_path, recipe)


def test_a_phantom_gives_the_same_from_files_and_in_a_manifest(tmp_path: Path) -> None:
    make_files(spec(3, "2+"), tmp_path / "p3")
    alone = cnn.read_source(tmp_path / "p3", WIDE)
    (tmp_path / "m.csv").write_text("results,case_id,scanner\np3,case,scan\n")
    listed = cnn.read_source(tmp_path / "m.csv", WIDE)
    np.testing.assert_array_equal(alone.rgb, listed.rgb)
    np.testing.assert_array_equal(alone.label, listed.label)
    assert set(alone.case) == {"p3"}
    assert set(listed.case) == {"case"}
    assert set(listed.scanner) == {"scan"}
    (tmp_path / "m.csv").write_text("results,label\np3,0\n")
    assert set(cnn.read_source(tmp_path / "m.csv", WIDE).label) == {0}


def test_results_give_patches_labelled_by_their_cells(tmp_path: Path) -> None:
    store = make_run(tmp_path / "out", "two_plus", slide=True)
    found = cnn.read_source(store.out, cnn.Recipe(per_slide=30))
    assert 5 <= len(found) <= 30
    cells = store.cells(["cell_id", "x_um", "y_um", "cell_type", "pattern"])
    cells = cells.filter(pa.array([t == "tumour" for t in cells["cell_type"].to_pylist()]))
    first = cnn.hashed_order(cells["cell_id"].to_numpy())[:30]
    table = TumourCells(
        cells["x_um"].to_numpy().astype(float),
        cells["y_um"].to_numpy().astype(float),
        np.array([PATTERNS.index(p) for p in cells["pattern"].to_pylist()]),
    )
    centres = np.stack([table.x_um[first], table.y_um[first]], axis=1)
    want = label_patches(table, centres, 64.0, "asco_cap_2018")
    np.testing.assert_array_equal(found.label, want[want >= 0])
    result = store.result()
    hidden = result.model_copy(update={"slide": result.slide.model_copy(update={"path": None})})
    store.write_result(hidden)
    with pytest.raises(OutputError, match="does not lead to its slide"):
        cnn.read_source(store.out, RECIPE)


def _ledger(store, features: list[dict]) -> None:
    text = json.dumps({"type": "FeatureCollection", "features": features})
    (store.out / "corrections.geojson").write_text(text)


def _cell(cell_id: int, pattern: str | None, kind: str | None) -> dict:
    made = Correction(int(cell_id), pattern, kind, "reader", "2026-01-02T03:04:05+00:00")
    return made.feature(0.0, 0.0)


def test_corrections_of_the_viewer_change_the_labels(tmp_path: Path) -> None:
    store = make_run(tmp_path / "out", "two_plus", slide=True)
    cells = store.cells(["cell_id", "cell_type"])
    ids = cells["cell_id"].to_numpy()
    recipe = cnn.Recipe(per_slide=30)
    before = cnn.read_source(store.out, recipe)
    assert set(before.label) <= {1, 2, 3}
    _ledger(store, [_cell(i, "none", None) for i in ids])
    after = cnn.read_source(store.out, recipe)
    assert set(after.label) == {0}
    np.testing.assert_array_equal(after.rgb, before.rgb)
    # applied for good by rescore, they say the same
    rescore(store.out, corrections=store.out / "corrections.geojson")
    np.testing.assert_array_equal(cnn.read_source(store.out, recipe).label, after.label)
    _ledger(store, [_cell(i, None, "other") for i in ids])
    with pytest.raises(ManifestError, match="not a single patch"):
        cnn.read_source(store.out, recipe)


def test_cells_of_marked_regions_are_left_out(tmp_path: Path) -> None:
    store = make_run(tmp_path / "out", "two_plus", slide=True)
    x = store.cells(["x_px"])["x_px"].to_numpy()
    middle, far = float(np.median(x)), float(x.max() + 99)
    square = [[middle, -99], [far, -99], [far, 9e4], [middle, 9e4], [middle, -99]]

    def marked(kind: str, ring: list) -> dict:
        return {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"correction": "region", "classification": {"name": kind}},
        }

    recipe = cnn.Recipe(per_slide=10_000)
    whole = cnn.read_source(store.out, recipe)
    _ledger(store, [marked("tumour", square)])
    assert len(cnn.read_source(store.out, recipe)) == len(whole)
    _ledger(store, [marked("necrosis", square)])
    half = cnn.read_source(store.out, recipe)
    assert 0.3 * len(whole) < len(half) < 0.7 * len(whole)
    _ledger(store, [marked("necrosis", [[0, 0]])])
    with pytest.raises(AnnotationError, match="no area"):
        cnn.read_source(store.out, recipe)


def test_regions_can_label_and_be_named(tmp_path: Path) -> None:
    store = make_run(tmp_path / "out", "clustered", slide=True)
    recipe = cnn.Recipe(per_slide=10_000, labels="regions")
    found = cnn.read_source(store.out, recipe)
    regions = store.regions().to_pydict()
    score = dict(zip(regions["region_id"], regions["score"], strict=True))
    cells = store.cells(["cell_type", "region_id"]).to_pylist()
    mine = [score[c["region_id"]] for c in cells if c["cell_type"] == "tumour"]
    want = np.bincount([SCORES.index(s) for s in mine if s is not None], minlength=4)
    np.testing.assert_array_equal(np.bincount(found.label, minlength=4), want)
    assert (want > 0).sum() >= 2
    name = next(n for n, s in zip(regions["name"], regions["score"], strict=True) if s)
    (tmp_path / "m.csv").write_text(f"results,region,label,case_id\nout,{name},1+,a\n")
    one = cnn.read_source(tmp_path / "m.csv", cnn.Recipe(per_slide=10_000))
    assert set(one.label) == {1}
    assert 8 <= len(one) < len(found)
    (tmp_path / "m.csv").write_text("results,region,case_id\nout,nowhere,a\n")
    with pytest.raises(ManifestError, match="no region 'nowhere'"):
        cnn.read_source(tmp_path / "m.csv", recipe)
    with pytest.raises(ManifestError, match="--guideline asco_cap_2018"):
        cnn.read_source(store.out, replace(recipe, guideline="heracles"))


def test_slides_of_a_batch_keep_their_case_and_scanner(tmp_path: Path) -> None:
    for name in ("a1", "a2", "b1"):
        make_run(tmp_path / "batch" / "slides" / name, "two_plus", slide=True)
    (tmp_path / "batch" / "slides.csv").write_text(
        "slide_id,case_id,folder,scanner\na1,A,a1,s1\na2,A,a2,s2\nb1,B,b1,s1\n"
    )
    recipe = cnn.Recipe(per_slide=5)
    found = cnn.read_source(tmp_path / "batch", recipe)
    assert {*zip(found.case.tolist(), found.scanner.tolist(), strict=True)} == {
        ("A", "s1"),
        ("A", "s2"),
        ("B", "s1"),
    }
    (tmp_path / "m.csv").write_text("results,scanner\nbatch,mine\n")
    listed = cnn.read_source(tmp_path / "m.csv", recipe)
    np.testing.assert_array_equal(listed.case, found.case)
    assert set(listed.scanner) == {"mine"}
    result = tmp_path / "batch" / "slides" / "b1" / "result.json"
    tree = json.loads(result.read_text())
    result.write_text(json.dumps({**tree, "status": "not_evaluable"}))
    assert set(cnn.read_source(tmp_path / "batch", recipe).case) == {"A"}
