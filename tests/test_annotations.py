"""Annotations: the three formats, holes and crossings, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from her2path.core.errors import AnnotationError
from her2path.core.settings import Settings
from her2path.io.annotations import Annotations, read_annotations
from her2path.io.annotations import read as reading

TUMOUR = Settings().tumour
SQUARE = [[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]]
HOLE = [[20, 20], [40, 20], [40, 40], [20, 40], [20, 20]]
BOW_TIE = [[0, 0], [100, 100], [100, 0], [0, 100], [0, 0]]


def _feature(coordinates: list, kind: str = "Polygon", **properties: object) -> dict:
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates},
            "properties": {"objectType": "annotation", **properties}}  # fmt: skip


def _read(tmp_path: Path, tree: object, **how: object) -> Annotations:
    path = tmp_path / "a.geojson"
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree))
    return read_annotations(path, TUMOUR, **how)


def test_qupath_with_holes_classes_and_multipolygons(tmp_path: Path) -> None:
    far = [[[x + 500, y] for x, y in SQUARE]]
    found = _read(tmp_path, {"type": "FeatureCollection", "features": [
        _feature([SQUARE, HOLE], classification={"name": "Tumor", "color": [200, 0, 0]}, name="T1"),
        _feature([[SQUARE], far], "MultiPolygon", classification={"names": ["Tumor", "Positive"]}),
        _feature([SQUARE], classification={"name": "DCIS"}),
        _feature([SQUARE], classification={"name": "Tumor: Negative"}),
        _feature([SQUARE], classification={"name": "Ignore*"}),
        _feature([SQUARE], classification={"name": "Stain batch 3"}),
        _feature([SQUARE]),
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {}},
    ]})  # fmt: skip
    assert [a.role for a in found.items] == ["tumour", "tumour", "excluded", "tumour", "excluded",
                                             "other", "tumour"]  # fmt: skip
    assert found.items[0].polygon.area == 100 * 100 - 20 * 20
    assert found.items[1].polygon.area == 2 * 100 * 100
    assert found.items[0].name == "T1"
    assert found.mended == 0
    assert found.excluded is not None
    assert found.tumour is not None
    assert found.tumour.area == 2 * 100 * 100
    names = [n for n, _, _ in found.named_um(0.5)]
    assert "T1" in names
    assert len(names) == 5
    again = _read(tmp_path, found.geojson())
    assert [a.polygon.area for a in again.items] == [a.polygon.area for a in found.items]


@pytest.mark.parametrize(
    ("name", "role"),
    [("Tumor", "tumour"), ("TUMOUR", "tumour"), ("Invasive carcinoma", "tumour"), ("", "tumour"),
     ("DCIS", "excluded"), ("Carcinoma in situ", "excluded"), ("Necrosis", "excluded"),
     ("Control tissue", "excluded"), ("Ignore*", "excluded"), ("Stroma", "excluded"),
     ("Tumor: Positive", "tumour"), ("Necrosis: Positive", "excluded"),
     ("Immune cells", "other"), ("Region*", "other"), ("not tumor", "other")],
)  # fmt: skip
def test_what_a_class_means(tmp_path: Path, name: str, role: str) -> None:
    (area,) = _read(tmp_path, [_feature([SQUARE], classification={"name": name})]).items
    assert area.role == role


def test_cells_and_tiles_of_an_export_are_no_areas(tmp_path: Path) -> None:
    cell = _feature([SQUARE])
    cell["properties"]["objectType"] = "cell"
    assert len(_read(tmp_path, [cell, _feature([SQUARE])]).items) == 1
    with pytest.raises(AnnotationError, match="holds no area"):
        _read(tmp_path, [cell])


def test_bare_geometries_and_collections(tmp_path: Path) -> None:
    polygon = {"type": "Polygon", "coordinates": [SQUARE]}
    assert len(_read(tmp_path, polygon).items) == 1
    both = {"type": "GeometryCollection", "geometries": [polygon, polygon]}
    assert len(_read(tmp_path, both).items) == 2
    inside = {"type": "Feature", "geometry": both, "properties": {}}
    assert len(_read(tmp_path, [inside]).items) == 2


def test_self_crossing_is_mended_and_counted(tmp_path: Path) -> None:
    found = _read(tmp_path, [_feature([BOW_TIE]), _feature([SQUARE])])
    assert found.mended == 1
    assert found.items[0].polygon.is_valid
    assert found.items[0].polygon.area == pytest.approx(5000)


def test_offset_is_added(tmp_path: Path) -> None:
    found = _read(tmp_path, [_feature([SQUARE])], offset_px=(1000, 50))
    assert found.items[0].polygon.bounds == (1000, 50, 1100, 150)


ASAP = """<?xml version="1.0"?><ASAP_Annotations><Annotations>
<Annotation Name="A 0" Type="Polygon" PartOfGroup="tumor"><Coordinates>
<Coordinate Order="1" X="100" Y="0"/><Coordinate Order="0" X="0" Y="0"/>
<Coordinate Order="2" X="100" Y="100"/><Coordinate Order="3" X="0" Y="100"/></Coordinates>
</Annotation>
<Annotation Name="B" Type="Dot" PartOfGroup="None"><Coordinates>
<Coordinate Order="0" X="1" Y="1"/></Coordinates></Annotation>
<Annotation Name="C" Type="Rectangle" PartOfGroup="necrosis"><Coordinates>
<Coordinate Order="0" X="0" Y="0"/><Coordinate Order="1" X="9" Y="0"/>
<Coordinate Order="2" X="9" Y="9"/></Coordinates></Annotation>
</Annotations></ASAP_Annotations>"""
IMAGESCOPE = """<Annotations MicronsPerPixel="0.25"><Annotation Id="1" Name="Tumor"><Regions>
<Region Id="1" Text="r1" NegativeROA="0"><Vertices><Vertex X="0" Y="0" Z="0"/>
<Vertex X="100" Y="0"/><Vertex X="100" Y="100"/><Vertex X="0" Y="100"/></Vertices></Region>
<Region Id="2" NegativeROA="1"><Vertices><Vertex X="20" Y="20"/><Vertex X="40" Y="20"/>
<Vertex X="40" Y="40"/><Vertex X="20" Y="40"/></Vertices></Region>
<Region Id="3" Text="ruler"><Vertices><Vertex X="0" Y="0"/><Vertex X="5" Y="5"/></Vertices></Region>
</Regions></Annotation></Annotations>"""


def test_asap(tmp_path: Path) -> None:
    found = _read(tmp_path, ASAP)
    assert [(a.name, a.role) for a in found.items] == [("A 0", "tumour"), ("C", "excluded")]
    assert found.items[0].polygon.area == 10_000


def test_imagescope_with_a_negative_region(tmp_path: Path) -> None:
    (area,) = _read(tmp_path, IMAGESCOPE).items
    assert area.role == "tumour"
    assert area.polygon.area == 10_000 - 400


def test_imagescope_crossing_is_counted(tmp_path: Path) -> None:
    corners = '<Vertex X="100" Y="0"/>', '<Vertex X="100" Y="100"/>'
    crossed = IMAGESCOPE.replace("".join(corners), "".join(reversed(corners)))
    crossed = crossed.replace('NegativeROA="1"', 'NegativeROA="0"')
    assert _read(tmp_path, crossed).mended == 1


BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "xxxx"><!ENTITY y "&x;&x;">]>
<Annotations>&y;</Annotations>"""


@pytest.mark.parametrize(
    "text",
    ["", "   ", "{", "[]", "null", "7", '"x"', "[1]", '{"type": "FeatureCollection"}',
     "[" * 100_000,
     '{"features": ' * 200 + "[]" + "}" * 200, BOMB, "<a/>", "<a", "<a>" * 50_000,
     json.dumps([_feature([[[0, 0], [1, 1]]])]), json.dumps([_feature([])]),
     json.dumps([_feature([[["a", 0], [1, 1], [2, 0]]])]),
     json.dumps([_feature([[[0, 0], [1e300, 1], [2, 0]]])]),
     json.dumps([_feature([[[0, 0], [float("nan"), 1], [2, 0]]])]),
     json.dumps([_feature([[[0, 0], [5, 5], [10, 10]]])]),
     json.dumps([_feature(None)]), json.dumps([{"type": "Feature", "geometry": None}]),
     "[" + "9" * 6000 + "]", "\x00\x01\x02", IMAGESCOPE.replace('X="0"', 'X="zero"'),
     ASAP.replace('X="0"', "")],
)  # fmt: skip
def test_what_cannot_be_used_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        _read(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert "a.geojson" in str(caught.value)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    with path.open("wb") as file:
        file.truncate(500 << 20)
    with pytest.raises(AnnotationError, match="500 MiB"):
        read_annotations(path, TUMOUR)


def test_too_many_points_are_refused_unparsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_POINTS", 2)
    with pytest.raises(AnnotationError, match="too many points"):
        _read(tmp_path, [_feature([SQUARE, HOLE])])


def test_names_stay_text_and_bounded(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>\n=cmd()" + "x" * 500
    one = _feature([SQUARE], name=name, classification={"name": "Tumor"})
    (area,) = _read(tmp_path, [one]).items
    assert area.name.startswith("<script>alert(1)</script> =cmd()")
    assert len(area.name) <= 100


def test_share_outside_tissue(tmp_path: Path) -> None:
    found = _read(tmp_path, [_feature([SQUARE, HOLE])])
    left = lambda x, y: x < 50  # noqa: E731
    assert found.share_outside(left, 1000, 1000) == pytest.approx(4600 / 9600 + 0.0417, abs=0.02)
    assert found.share_outside(lambda x, y: x >= 0, 1000, 1000) == 0
    assert found.share_outside(lambda x, y: x >= 0, 1000, 50) == pytest.approx(0.5208, abs=0.02)
    away = _read(tmp_path, [_feature([SQUARE])], offset_px=(5000, 0))
    assert away.share_outside(lambda x, y: x >= 0, 1000, 1000) == 1
