"""Annotation files and slides find each other by name, or what is left over is said."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest

from her2path.core.errors import ManifestError
from her2path.runs.cohort.manifest import Entry
from her2path.runs.cohort.matching import find_annotations

NFC, NFD = (unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD"))


def entries(*slides: str) -> list[Entry]:
    return [Entry(i, Path("/s") / s, Path(s).stem, s, s) for i, s in enumerate(slides, 2)]


def match(
    folder: Path, slides: Sequence[str], files: Sequence[str]
) -> tuple[list[str | None], list[str]]:
    folder.mkdir(exist_ok=True)
    for name in files:
        (folder / name).write_text("{}")
    said: list[str] = []
    found = find_annotations(entries(*slides), folder, said.append)
    return [e.annotations.name if e.annotations else None for e in found], said


@pytest.mark.parametrize(
    ("slide", "file"),
    [("A.svs", "A.geojson"), ("A.svs", "A.xml"), ("A.svs", "A.annotations"), ("A.svs", "A.JSON"),
     ("A.ome.tif", "A.geojson"), ("A.ome.tif", "A.ome.geojson"), ("A.OME.TIFF", "a.geojson"),
     ("A.ome.tif", "A.ome.tif.geojson"), ("B.svs", "B.svs.geojson"), ("B.svs", "B.SVS.xml"),
     ("C.svs", "C.GEOJSON"), ("E.svs", "e.geojson"), (f"{NFD}.svs", f"{NFC}.geojson"),
     (f"{NFC}.svs", f"{NFD.upper()}.geojson"), ("a.b.svs", "a.b.geojson"),
     ("S-1.2.ndpi", "S-1.2.ndpi.geojson"), ("straße.svs", "STRASSE.geojson")],
)  # fmt: skip
def test_one_slide_one_file(tmp_path: Path, slide: str, file: str) -> None:
    assert match(tmp_path, [slide], [file]) == ([file], [])


def test_the_nearest_spelling_wins(tmp_path: Path) -> None:
    slides = ["A.ome.tif", "A.svs", "a1.svs"]
    files = ["A.geojson", "A.ome.geojson", "a1.xml"]
    assert match(tmp_path, slides, files)[0] == ["A.ome.geojson", "A.geojson", "a1.xml"]


def test_what_is_left_over_is_said(tmp_path: Path) -> None:
    found, said = match(tmp_path, ["a.svs"], ["a.geojson", "Z.geojson", "notes.txt", "._a.xml"])
    assert found == ["a.geojson"]
    assert said == ["annotations that fit no slide of this batch: Z.geojson"]
    (tmp_path / "Z.geojson").unlink()
    assert match(tmp_path, ["a.svs", "b.svs"], []) == (
        ["a.geojson", None], ["slides without annotations: b.svs"])  # fmt: skip


@pytest.mark.parametrize(
    ("slides", "files", "words"),
    [(["a.svs"], ["b.geojson"], ("b.geojson", "a.svs")),
     (["a.svs", "b.svs"], ["a.geojson", "b_1.geojson"], ("b_1.geojson", "b.svs")),
     (["a.svs"], ["a.geojson", "a.xml"], ("a.geojson", "a.xml", "row 2")),
     (["E.svs"], ["e.geojson", "e.GEOJSON"], ("e.geojson", "e.GEOJSON")),
     (["A.ome.tif", "A.ome.tiff"], ["A.geojson"], ("A.geojson", "2, 3")),
     (["a.svs"], ["readme.txt"], ("holds no annotations",))],
)  # fmt: skip
def test_what_cannot_be_told_is_refused(
    tmp_path: Path, slides: list[str], files: list[str], words: tuple[str, ...]
) -> None:
    with pytest.raises(ManifestError) as caught:
        match(tmp_path, slides, files)
    for word in words:
        assert word in str(caught.value)


def test_the_manifest_wins(tmp_path: Path) -> None:
    (tmp_path / "a.geojson").write_text("{}")
    own = Path("/elsewhere/x.geojson")
    (one,) = (Entry(2, Path("/s/a.svs"), "a", "a", "a", annotations=own),)
    said: list[str] = []
    assert find_annotations([one], tmp_path, said.append) == [one]
    assert said == ["annotations that fit no slide of this batch: a.geojson"]
