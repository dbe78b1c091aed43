"""Phantoms as files: slides that OpenSlide reads, tables, controls, the demo."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openslide
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from her2path.phantom import (
    CONTROLS,
    Phantom,
    PhantomSpec,
    control_specs,
    demo_spec,
    encode_decode,
    make_files,
    make_phantom,
    random_spec,
    write_slide,
)

SMALL = {"width_um": 160.0, "height_um": 128.0, "margin_um": 12.0}


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(PhantomSpec(**SMALL, seed=7, jpeg_quality=95, subsampling="4:4:4"))


@pytest.mark.parametrize("tile", [240, 256])
def test_openslide_reads_it_as_aperio(phantom: Phantom, tmp_path: Path, tile: int) -> None:
    path = tmp_path / "a.svs"
    write_slide(phantom, path, tile=tile)
    assert openslide.OpenSlide.detect_format(path) == "aperio"
    with openslide.OpenSlide(path) as slide:
        assert float(slide.properties["openslide.mpp-x"]) == 0.25
        assert slide.properties["openslide.objective-power"] == "40"
        assert slide.dimensions == (640, 512)
        assert slide.level_count >= 2
        seen = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
        low = np.asarray(slide.read_region((0, 0), 1, slide.level_dimensions[1]).convert("RGB"))
    difference = np.abs(seen.astype(int) - phantom.rgb.astype(int))
    assert difference.mean() < 2
    assert np.abs(seen.mean(axis=(0, 1)) - low.mean(axis=(0, 1))).max() < 2


def test_quality_and_subsampling_are_honoured(phantom: Phantom, tmp_path: Path) -> None:
    sizes, errors = {}, {}
    for quality, chroma in ((95, "4:4:4"), (95, "4:2:0"), (60, "4:2:0")):
        spec = phantom.spec.model_copy(update={"jpeg_quality": quality, "subsampling": chroma})
        path = tmp_path / f"{quality}{chroma.replace(':', '')}.svs"
        write_slide(Phantom(phantom.rgb, phantom.truth, phantom.regions, {}, spec), path)
        with openslide.OpenSlide(path) as slide:
            seen = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
        sizes[quality, chroma] = path.stat().st_size
        errors[quality, chroma] = np.abs(seen.astype(int) - phantom.rgb.astype(int)).mean()
        tile = encode_decode(phantom.rgb[256:512, 256:512], quality, chroma)
        assert np.array_equal(seen[256:512, 256:512], tile)
    assert sizes[60, "4:2:0"] < sizes[95, "4:2:0"] < sizes[95, "4:4:4"]
    assert errors[60, "4:2:0"] > errors[95, "4:2:0"] > errors[95, "4:4:4"]


def test_repeated_tiles_make_a_large_slide(tmp_path: Path) -> None:
    phantom = make_phantom(PhantomSpec(width_um=128, height_um=64, margin_um=5))
    path = tmp_path / "large.svs"
    write_slide(phantom, path, tile_repeat=(3, 4))
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (4 * 512, 3 * 256)
        first = np.asarray(slide.read_region((0, 0), 0, (512, 256)))
        last = np.asarray(slide.read_region((3 * 512, 2 * 256), 0, (512, 256)))
    assert np.array_equal(first, last)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"tile": 100}, "16"),
        ({"tile_repeat": (0, 1)}, "1 or more"),
        ({"tile_repeat": (2, 1), "tile": 240}, "240"),
    ],
)
def test_unfit_tiles_are_refused(
    phantom: Phantom, tmp_path: Path, options: dict[str, object], names: str
) -> None:
    with pytest.raises(ValueError, match=names):
        write_slide(phantom, tmp_path / "x.svs", **options)  # type: ignore[arg-type]


def test_make_files_writes_slide_and_truth(tmp_path: Path) -> None:
    spec = PhantomSpec(**SMALL, mixture={"none": 0.5, "faint_complete": 0.5})
    paths = make_files(spec, tmp_path / "new" / "folder")
    assert {p.name for p in paths.values()} == {
        "phantom.svs", "truth.parquet", "truth.csv", "regions.csv", "truth.json",
    }  # fmt: skip
    table = pq.read_table(paths["truth"])
    assert pa_csv.read_csv(paths["truth_csv"]).num_rows == table.num_rows
    facts = json.loads(paths["summary"].read_text(encoding="utf-8"))
    assert PhantomSpec.model_validate(facts["spec"]) == spec
    tumour = [
        p
        for p, t in zip(table["pattern"].to_pylist(), table["cell_type"].to_pylist(), strict=True)
        if t == "tumour"
    ]
    assert facts["pattern_counts"]["faint_complete"] == tumour.count("faint_complete") > 0
    assert facts["areas"]["tissue_area_mm2"] > facts["areas"]["tumour_area_mm2"] > 0


def test_same_spec_same_bytes(tmp_path: Path) -> None:
    spec = PhantomSpec(**SMALL)
    for name in ("a", "b"):
        make_files(spec, tmp_path / name)
    for name in ("phantom.svs", "truth.csv", "truth.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_controls_share_the_protocol() -> None:
    spec = random_spec(11, width_um=300, height_um=300, folds=2, pen=1)
    controls = control_specs(spec)
    assert set(controls) == set(CONTROLS) == {"negative", "faint", "moderate", "intense"}
    shared = (
        "hematoxylin", "dab", "white", "strength", "blur_um", "sharpen", "noise", "mpp",
        "jpeg_quality", "subsampling", "nucleus_od", "od_faint", "od_moderate", "od_intense",
    )  # fmt: skip
    for name, control in controls.items():
        assert all(getattr(control, field) == getattr(spec, field) for field in shared)
        assert control.layout == "homogeneous"
        assert control.mixture == CONTROLS[name]
        assert control.folds == control.pen == 0
    assert len({spec.seed, *(c.seed for c in controls.values())}) == 5


def test_random_specs_differ_and_obey() -> None:
    specs = [random_spec(seed) for seed in range(60)]
    assert {s.layout for s in specs} == {"homogeneous", "clustered", "mosaic", "scattered"}
    assert len({s.dab for s in specs}) == 60
    assert all(0.2 <= s.mpp <= 0.5 for s in specs)
    assert random_spec(5) == specs[5]
    assert random_spec(5, mpp=0.25, layout="mosaic").layout == "mosaic"
    with pytest.raises(ValueError, match="colour"):
        random_spec(5, colour="red")


def test_demo_is_a_heterogeneous_tumour() -> None:
    spec = demo_spec()
    assert spec.layout == "clustered"
    assert 1.5 < spec.width_um * spec.height_um * 1e-6 < 4
    assert spec.mpp == 0.25
