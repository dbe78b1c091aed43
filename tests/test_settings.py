"""Settings: YAML both ways, clear errors, fingerprints."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from her2path.core.errors import SettingsError
from her2path.core.settings import Settings, load_settings, parse_set

ROOT = Path(__file__).parents[1]


def test_yaml_round_trip(tmp_path: Path) -> None:
    changed = Settings().replace({"score.min_cells": 7, "membrane.cutoffs": [0.1, 0.2, 0.3]})
    file = tmp_path / "s.yaml"
    file.write_text(changed.to_yaml())
    assert load_settings(file) == changed


def test_defaults_are_those_of_the_contract() -> None:
    s = Settings()
    assert s.slide.icc == "off"
    assert s.stain.method == "estimate"
    assert s.membrane.complete_at == 0.80
    assert s.tumour.method == "auto"
    assert s.score.guideline == "asco_cap_2018"
    assert (s.score.noise_floor, s.score.min_cells) == (0.01, 100)
    assert (s.regions.kind, s.regions.size_um, s.regions.min_cells) == ("grid", 500, 50)
    assert (s.ish.cell_ratio, s.ish.min_cells) == (2.0, 20)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("scorre: {}", "scorre"),
        ("score: {min_cell: 3}", "min_cells"),
        ("score: {min_cells: -1}", "score.min_cells"),
        ("membrane: {cutoffs: [0.3, 0.2, 0.5]}", "rising"),
        ("membrane: {cutoffs: [0.1, 0.2]}", "membrane.cutoffs"),
        ("slide: {mpp: 5}", "slide.mpp"),
        ("slide: {mpp: .nan}", "slide.mpp"),
        ("stain: {dab: [0, 0, 0]}", "stain.dab"),
        ("stain: {white_point: [1, 2, 3]}", "stain.white_point"),
        ("- a list", "not a table"),
        ("a: [1", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("heterogeneity: {positive: [strong]}", "heterogeneity.positive"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_empty_section_means_nothing_changed(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("score:\nmembrane:\n")
    assert load_settings(file) == Settings()


def test_a_missing_or_huge_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "absent.yaml")
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(SettingsError, match="1 MiB"):
        load_settings(huge)


def test_set_reads_yaml_values() -> None:
    assert parse_set("membrane.cutoffs=[0.1, 0.2, 0.3]") == ("membrane.cutoffs", [0.1, 0.2, 0.3])
    assert load_settings(None, ["score.min_cells=5", "slide.icc=apply"]).slide.icc == "apply"


@pytest.mark.parametrize(
    "text",
    ["score.min_cells", "=3", "score.min_cells=[", "score=3", "score.min_cells.x=3", "a.b.c=1"],
)
def test_a_wrong_set_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        load_settings(None, [text])


def test_a_wrong_key_lists_the_valid_ones() -> None:
    with pytest.raises(SettingsError, match="Did you mean 'min_cells'"):
        Settings().replace({"score.min_cels": 3})


def test_the_fingerprint_follows_results_only() -> None:
    base = Settings()
    assert base.replace({"stream.block_px": 512, "stream.workers": 3}).sha256() == base.sha256()
    assert base.replace({"slide.reader": "openslide"}).sha256() == base.sha256()
    assert base.replace({"seed": 1}).sha256() != base.sha256()
    assert base.replace({"score.min_cells": 99}).sha256() != base.sha256()


@given(st.text(max_size=40))
def test_no_text_of_set_gives_a_traceback(text: str) -> None:
    with contextlib.suppress(SettingsError):
        load_settings(None, [text])


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_ready_settings_load(file: Path) -> None:
    settings = load_settings(file)
    named = (yaml.safe_load(file.read_text()) or {}).get("score", {}).get("guideline")
    assert named in (None, settings.score.guideline)


def test_default_yaml_is_the_default() -> None:
    assert load_settings(ROOT / "configs" / "default.yaml") == Settings()
