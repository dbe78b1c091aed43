"""Annotation dialects: every shape, class and object type as meant, refused, or counted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from her2path.core.errors import AnnotationError
from her2path.core.settings import Settings
from her2path.io.annotations import Annotations, SlideCentre, read_annotations
from her2path.io.annotations.classes import hidden_class, role_of
from her2path.runs.case.drawn import annotation_flags, check_usable

SETTINGS = Settings()
SQUARE = [[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]]
AWAY = [[x + 500, y] for x, y in SQUARE]


def feature(ring: Any = SQUARE, kind: str = "Polygon", **more: Any) -> dict[str, Any]:
    """Return a feature; ``more`` is its properties, ``outer`` what stands beside them."""
    outer = more.pop("outer", {})
    coordinates = [ring] if kind == "Polygon" and ring else ring
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates},
            "properties": more, **outer}  # fmt: skip


def region(points: list[tuple[float, float]], kind: str = "0", negative: str = "0", text: str = "",
           vertex: str = "Vertex") -> str:  # fmt: skip
    at = "".join(f'<{vertex} X="{x}" Y="{y}"/>' for x, y in points)
    return (f'<Region Type="{kind}" NegativeROA="{negative}" Text="{text}">'
            f"<Vertices>{at}</Vertices></Region>")  # fmt: skip


def layers(*regions: str, name: str = "Tumor") -> str:
    return f'<Annotation Name="{name}"><Regions>{"".join(regions)}</Regions></Annotation>'


def imagescope(*parts: str) -> str:
    return f"<Annotations>{''.join(parts)}</Annotations>"


def read(tmp_path: Path, content: Any, name: str = "a.x") -> Annotations:
    path = tmp_path / name
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_annotations(path, SETTINGS.tumour)


def left(found: Annotations) -> dict[str, int]:
    return {what.what: n for what, n in found.left_out}


# -- shapes ----------------------------------------------------------------------------------------

BOX = [(10.0, 20.0), (110.0, 60.0)]
CORNERS = [(10, 20), (110, 20), (110, 60), (10, 60)]
RIMS = [(60, 20), (110, 40), (60, 60), (10, 40)]


@pytest.mark.parametrize("points", [BOX, BOX[::-1], CORNERS, RIMS, [*CORNERS, CORNERS[0]]])
@pytest.mark.parametrize("kind", ["2", "Ellipse", "ellipse"])
def test_an_ellipse_fills_the_rectangle_around_its_points(
    tmp_path: Path, points: list[tuple[float, float]], kind: str
) -> None:
    (area,) = read(tmp_path, imagescope(layers(region(points, kind)))).items
    assert area.polygon.area == pytest.approx(np.pi * 50 * 20, rel=2e-4)
    assert area.polygon.bounds == pytest.approx((10, 20, 110, 60))


def test_an_ellipse_of_many_points_stays_as_drawn(tmp_path: Path) -> None:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    slanted = np.column_stack([50 * np.cos(angle) + 60, 50 * np.cos(angle) + 20 * np.sin(angle)])
    (area,) = read(tmp_path, imagescope(layers(region(slanted.tolist(), "2")))).items
    assert area.polygon.area == pytest.approx(shapely.Polygon(slanted).area)


def test_a_rectangle_of_two_points(tmp_path: Path) -> None:
    for kind in ("1", "Rectangle"):
        (area,) = read(tmp_path, imagescope(layers(region(BOX, kind)))).items
        assert area.polygon.area == 100 * 40


def test_geojson_ellipses_are_read_as_qupath_reads_them(tmp_path: Path) -> None:
    one = feature([*CORNERS, CORNERS[0]])
    one["geometry"]["isEllipse"] = True
    (area,) = read(tmp_path, [one]).items
    assert area.polygon.area == pytest.approx(np.pi * 50 * 20, rel=2e-4)


@pytest.mark.parametrize("negative", ["1", "true", "True"])
def test_a_negative_ellipse_cuts_its_layer(tmp_path: Path, negative: str) -> None:
    whole = region([(0, 0), (200, 0), (200, 100), (0, 100)], "1")
    found = read(tmp_path, imagescope(layers(whole, region(BOX, "2", negative))))
    (area,) = found.items
    assert area.polygon.area == pytest.approx(200 * 100 - np.pi * 50 * 20, rel=1e-4)


def test_a_layer_of_negative_areas_alone_is_left_out_of_the_slide(tmp_path: Path) -> None:
    whole = layers(region([(0, 0), (200, 0), (200, 100), (0, 100)]))
    found = read(tmp_path, imagescope(whole, layers(region(BOX, "1", "1"), name="")))
    assert [a.role for a in found.items] == ["tumour", "excluded"]
    assert found.excluded is not None
    assert found.excluded.area == 4000


@pytest.mark.parametrize(
    ("kind", "points", "word"),
    [("3", BOX, "arrow"), ("4", BOX, "ruler"), ("Ruler", [*CORNERS], "ruler"), ("0", BOX, "empty"),
     ("Pin", BOX[:1], "point"), ("2", BOX[:1], "empty"), ("0", [], "empty"),
     ("2", [(1, 1), (9, 1)], "empty"), ("77", CORNERS, "shape of another type")],
)  # fmt: skip
def test_what_is_no_area_is_counted(
    tmp_path: Path, kind: str, points: list[tuple[float, float]], word: str
) -> None:
    good = region([(0, 0), (200, 0), (200, 100)])
    found = read(tmp_path, imagescope(layers(good, region(points, kind))))
    assert len(found.items) == 1
    ((what, count),) = found.left_out
    assert what.what.startswith(word)
    assert count == 1
    (told,) = annotation_flags(found, "annotation")
    assert told.code == "ANNOTATION_OBJECTS_LEFT_OUT"
    assert told.severity == "warning"
    with pytest.raises(AnnotationError, match=f"holds no area, but 1 x {word}"):
        read(tmp_path, imagescope(layers(region(points, kind))))


@pytest.mark.parametrize(
    "empty",
    [feature([]), feature([[]]), feature([[1, 2]]), feature([[1, 2], [3, 4]]),
     feature([[[]]], "MultiPolygon"), feature([], "MultiPolygon"),
     feature([[0, 0], [5, 5], [9, 9]]), feature(None),
     {"type": "Feature", "geometry": None, "properties": {}},
     {"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": []},
      "properties": None}],
)  # fmt: skip
def test_an_empty_area_beside_a_good_one(tmp_path: Path, empty: dict[str, Any]) -> None:
    found = read(tmp_path, [empty, feature()])
    assert [a.polygon.area for a in found.items] == [10_000]
    assert left(found) == {"empty area": 1}


def test_points_and_lines_of_geojson_are_counted(tmp_path: Path) -> None:
    found = read(tmp_path, [feature([1, 2], "Point"), feature(SQUARE, "LineString"), feature(),
                            feature([], "Circle")])  # fmt: skip
    assert left(found) == {"point": 1, "line": 1, "geometry of another type": 1}
    (told,) = annotation_flags(found, "annotation")
    assert "geometry of another type 'Circle' (1)" in told.message


def test_parts_of_a_multipolygon_that_are_empty_are_passed_over(tmp_path: Path) -> None:
    (area,) = read(tmp_path, [feature([[SQUARE], [[]], [AWAY]], "MultiPolygon")]).items
    assert area.polygon.area == 20_000


# -- object types ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cell", "detection", "tile", "tma_core", "root"])
def test_objects_that_are_no_annotations_in_every_qupath(tmp_path: Path, kind: str) -> None:
    old = {"cell": "PathCellObject", "detection": "PathDetectionObject", "tile": "PathTileObject",
           "tma_core": "TMACoreObject", "root": "PathRootObject"}[kind]  # fmt: skip
    for one in (feature(AWAY, objectType=kind), feature(AWAY, object_type=kind),
                feature(AWAY, outer={"id": old})):  # fmt: skip
        found = read(tmp_path, [one, feature(outer={"id": "PathAnnotationObject"})])
        assert [a.polygon.bounds for a in found.items] == [(0, 0, 100, 100)]
        (told,) = annotation_flags(found, "annotation")
        assert (told.code, told.severity) == ("ANNOTATION_OBJECTS_LEFT_OUT", "info")


def test_a_cell_is_known_by_its_nucleus_and_a_stranger_is_named(tmp_path: Path) -> None:
    found = read(tmp_path, [feature(AWAY, outer={"nucleusGeometry": {"type": "Polygon"}}),
                            feature(AWAY, objectType="superpixel"), feature()])  # fmt: skip
    assert len(found.items) == 1
    assert left(found) == {"cell": 1, "object of another type": 1}
    (told,) = annotation_flags(found, "annotation")
    assert "'superpixel'" in told.message
    assert told.severity == "warning"


# -- encodings and dialects ------------------------------------------------------------------------

XML = imagescope(layers(region(CORNERS, text="Müller")))


@pytest.mark.parametrize("text", [XML, json.dumps([feature(name="Müller")], ensure_ascii=False)])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
def test_encodings(tmp_path: Path, text: str, encoding: str) -> None:
    (area,) = read(tmp_path, text.encode(encoding)).items
    assert area.name == "Müller"


@pytest.mark.parametrize("declared", ["UTF-16", "utf-8", "windows-1252", "ISO-8859-1"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_a_declaration_that_does_not_hold(tmp_path: Path, declared: str, encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{declared}"?>{XML}'
    (area,) = read(tmp_path, text.encode(encoding)).items
    assert area.name == "Müller"


def test_a_declared_code_page(tmp_path: Path) -> None:
    text = '<?xml version="1.0" encoding="cp1251"?>' + XML.replace("Müller", "опухоль")
    assert read(tmp_path, text.encode("cp1251")).items[0].name == "опухоль"


def test_halo(tmp_path: Path) -> None:
    text = imagescope(layers(region(BOX, "Ellipse", vertex="V"), region(CORNERS, "Polygon",
                             vertex="V"), region(BOX, "Ruler", vertex="V")))  # fmt: skip
    found = read(tmp_path, text, "a.annotations")
    assert [round(a.polygon.area) for a in found.items] == [3141, 4000]
    assert left(found) == {"ruler": 1}


def test_a_namespace_changes_nothing(tmp_path: Path) -> None:
    assert len(read(tmp_path, XML.replace("<Annotations>", '<Annotations xmlns="urn:x">')).items)


def test_imagescope_keeps_a_class_in_its_description(tmp_path: Path) -> None:
    told = '<Attributes><Attribute Name="Description" Value="DCIS"/></Attributes>'
    text = XML.replace('Name="Tumor">', f'Name="">{told}').replace("Müller", "")
    assert read(tmp_path, text).items[0].role == "excluded"


def test_asap_groups_lie_in_groups(tmp_path: Path) -> None:
    corners = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>'
                      for i, (x, y) in enumerate(CORNERS))  # fmt: skip
    one = '<Annotation Name="A" Type="{}" PartOfGroup="{}">{}</Annotation>'
    groups = "".join(f'<Group Name="{n}" PartOfGroup="{of}"/>' for n, of in
                     (("hot", "Tumor"), ("Tumor", "None"), ("x", "y"), ("y", "x")))  # fmt: skip
    areas = "".join([
        one.format("Spline", "hot", corners), one.format("PointSet", "hot", corners),
        one.format("Polygon", "x", corners), one.format("Polygon", "Tumor", ""),
        one.format("Rectangle", "None", corners),
    ])  # fmt: skip
    found = read(tmp_path, f"<ASAP_Annotations>{areas}{groups}</ASAP_Annotations>")
    assert [(a.classification, a.role) for a in found.items] == [
        ("Tumor: hot", "tumour"), ("y: x", "other"), ("", "tumour")]  # fmt: skip
    assert left(found) == {"point": 1, "empty area": 1}


@pytest.mark.parametrize(
    ("content", "word"),
    [("<annotations><ndpviewstate id='1'/></annotations>", "NDP.view"),
     ("<PASCAL/>", "unknown XML: 'PASCAL'"), (gzip.compress(b"[]", mtime=0), "compressed"),
     (b"PK\x03\x04" + b"x" * 40, "compressed")],
)  # fmt: skip
def test_dialects_that_are_not_read_say_so(tmp_path: Path, content: Any, word: str) -> None:
    with pytest.raises(AnnotationError, match=word):
        read(tmp_path, content)


# -- classes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "role"),
    [("Invasive tumor", "tumour"), ("Tumor cells", "tumour"), ("tumor_area", "tumour"),
     ("IDC", "tumour"), ("Tumor*", "tumour"), ("In-situ", "excluded"), ("Ignore", "excluded"),
     ("control 0", "excluded"), ("control 3+", "excluded"), ("control 7", "excluded"),
     ("Control 250000 receptors", "excluded"), ("positive control", "excluded"),
     ("Region*", "other"), ("Tumor: Positive: x", "tumour"), ("Exclusion", "excluded"),
     ("tumor-free", "other")],
)  # fmt: skip
def test_what_a_class_means(name: str, role: str) -> None:
    assert role_of(name, SETTINGS.tumour) == role


def test_a_name_stands_in_for_a_class_that_says_nothing(tmp_path: Path) -> None:
    found = read(tmp_path, [feature(name="DCIS"), feature(AWAY, name="tumor"),
                            feature(name="DCIS", classification={"name": "Tumor"}),
                            feature(name="x", label="necrosis")])  # fmt: skip
    assert [a.role for a in found.items] == ["excluded", "tumour", "tumour", "excluded"]


@pytest.mark.parametrize("method", ["auto", "annotation"])
def test_a_file_that_marks_no_tumour_is_refused(tmp_path: Path, method: str) -> None:
    found = read(tmp_path, [feature(classification={"name": "Region*"})])
    settings = SETTINGS.replace({"tumour.method": method})
    with pytest.raises(AnnotationError) as caught:
        check_usable(found, settings, tmp_path / "a.x")
    for word in ("a.x", "'Region*' (1)", "tumour.classes", "invasive carcinoma"):
        assert word in str(caught.value)
    if method == "auto":
        check_usable(found, settings.replace({"regions.kind": "annotation"}), tmp_path)
    check_usable(found, settings.replace({"tumour.method": "morphology"}), tmp_path)
    codes = [f.code for f in annotation_flags(found, "morphology")]
    assert codes == ["ANNOTATION_CLASSES_UNKNOWN", "ANNOTATIONS_NOT_SELECTING"]


def test_areas_that_only_leave_out_are_no_tumour(tmp_path: Path) -> None:
    control = read(tmp_path, [feature(classification={"name": "control 1+"})])
    assert annotation_flags(control, "morphology") == []  # what calibrates is no try at selecting
    found = read(tmp_path, [feature(classification={"name": "Ignore*"})])
    check_usable(found, SETTINGS, tmp_path)
    assert [f.code for f in annotation_flags(found, "morphology")] == ["ANNOTATIONS_NOT_SELECTING"]
    with pytest.raises(AnnotationError):
        check_usable(found, SETTINGS.replace({"tumour.method": "annotation"}), tmp_path)


def test_unknown_and_missing_classes_beside_tumour_are_flagged(tmp_path: Path) -> None:
    found = read(tmp_path, [feature(classification={"name": "Tumor"}), feature(AWAY),
                            feature(AWAY, classification={"name": "Front"})])  # fmt: skip
    check_usable(found, SETTINGS, tmp_path)
    flags = {f.code: f for f in annotation_flags(found, "annotation")}
    assert set(flags) == {"ANNOTATION_CLASSES_UNKNOWN", "ANNOTATIONS_WITHOUT_CLASS"}
    assert "'Front' (1)" in flags["ANNOTATION_CLASSES_UNKNOWN"].message
    assert annotation_flags(read(tmp_path, [feature(), feature(AWAY)]), "annotation") == []


# -- pseudonyms ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "role", "hidden"),
    [("Tumor", "tumour", "tumor"), ("Tumor: Dr X", "tumour", "tumor"), ("Dr X", "tumour", "tumor"),
     ("Dr X", "excluded", "ignore*"), ("Dr X", "other", None), ("DCIS", "excluded", "dcis"),
     ("control Dr X", "excluded", "control"), ("Control 2+", "excluded", "control 2+"),
     ("control 1e5 receptors", "excluded", "control 1e5 receptors"), ("stroma", "tumour", "tumor"),
     ("", "tumour", "")],
)  # fmt: skip
def test_a_hidden_class(name: str, role: str, hidden: str | None) -> None:
    assert hidden_class(name, role) == hidden


def test_hidden_annotations_mean_the_same_when_read_again(tmp_path: Path) -> None:
    named = [feature(name="Frau X", classification={"name": "Tumor: X"}),
             feature(AWAY, name="X", classification={"name": "Dr X"}),
             feature(AWAY, classification={"name": "Dr Y"}), feature(AWAY, objectType="X-object"),
             feature(AWAY, classification={"name": "control X"})]  # fmt: skip
    found = read(tmp_path, named)
    hidden = found.hidden()
    text = hidden.geojson() + " ".join(f.message for f in annotation_flags(hidden, "annotation"))
    assert "X" not in text
    assert "class 2" in text
    (tmp_path / "b").write_text(hidden.geojson())
    again = read_annotations(tmp_path / "b", SETTINGS.tumour, stored=True)
    assert [a.role for a in again.items] == [a.role for a in found.items]
    assert [a.polygon for a in again.items] == [a.polygon for a in found.items]


# -- NDP.view --------------------------------------------------------------------------------------

#: 3968 x 4864 px of 0.25 µm; the scan's centre lies 12 mm right of and 0.1 mm above the glass's
CENTRE = SlideCentre.of(
    {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25",
     "hamamatsu.XOffsetFromSlideCentre": "12000000",
     "hamamatsu.YOffsetFromSlideCentre": "-100000"}, (3968, 4864),
)  # fmt: skip


def ndpa(*views: str) -> str:
    return f"<?xml version='1.0' encoding='utf-8'?><annotations>{''.join(views)}</annotations>"


def view(
    inside: str, title: str = "Tumor", kind: str = "freehand", unit: str = "nanometers"
) -> str:
    return (
        f'<ndpviewstate id="1"><title>{title}</title><details/><coordformat>{unit}'
        f'</coordformat><annotation type="{kind}">{inside}</annotation></ndpviewstate>'
    )


def nm(points: list[list[int]]) -> str:
    """Return level-0 pixels as NDP.view writes them."""
    at = [((x - 1984) * 250 + 12_000_000, (y - 2432) * 250 - 100_000) for x, y in points]
    listed = "".join(f"<point><x>{x}</x><y>{y}</y></point>" for x, y in at)
    return f"<closed>1</closed><pointlist>{listed}</pointlist>"


def read_ndpa(tmp_path: Path, text: str, centre: SlideCentre | None = CENTRE) -> Annotations:
    path = tmp_path / "a.ndpi.ndpa"
    path.write_text(text)
    return read_annotations(path, SETTINGS.tumour, centre=centre)


def test_ndpview_counts_nm_from_the_centre_of_the_glass(tmp_path: Path) -> None:
    circle = "<x>11504000</x><y>-708000</y><radius>25000</radius>"  # 100 px around (0, 0)
    found = read_ndpa(tmp_path, ndpa(
        view(nm([[1984, 2432], [2084, 2432], [2084, 2482]])), view(circle, "DCIS", "circle"),
        view("<x1>0</x1>", kind="linearmeasure"), view("", kind="pointer"), view(nm([[0, 0]])),
        view(nm(SQUARE).replace("<closed>1", "<closed>0")), view("", kind="lasso"),
        "<ndpviewstate><title>a place</title></ndpviewstate>",
    ))  # fmt: skip
    triangle, disc = found.items
    assert triangle.polygon.bounds == pytest.approx((1984, 2432, 2084, 2482))
    assert (triangle.role, disc.role) == ("tumour", "excluded")
    assert disc.polygon.bounds == pytest.approx((-100, -100, 100, 100), abs=1e-6)
    assert left(found) == {"ruler": 1, "arrow": 1, "empty area": 1, "line": 1, "saved view": 1,
                           "shape of another type": 1}  # fmt: skip


@pytest.mark.parametrize(
    ("centre", "unit", "words"),
    [
        (None, "nanometers", "does not tell where"),
        (CENTRE, "pixels", "'pixels', not in nanometers"),
    ],
)
def test_ndpview_without_its_frame_is_refused(
    tmp_path: Path, centre: SlideCentre | None, unit: str, words: str
) -> None:
    with pytest.raises(AnnotationError, match=words):
        read_ndpa(tmp_path, ndpa(view(nm(SQUARE), unit=unit)), centre)


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"},
        {
            "openslide.mpp-x": "0",
            "openslide.mpp-y": "0.25",
            "hamamatsu.XOffsetFromSlideCentre": "1",
            "hamamatsu.YOffsetFromSlideCentre": "1",
        },
        {
            "openslide.mpp-x": "0.25",
            "openslide.mpp-y": "0.25",
            "hamamatsu.XOffsetFromSlideCentre": "x",
            "hamamatsu.YOffsetFromSlideCentre": "1",
        },
    ],
)
def test_a_slide_that_does_not_tell_its_centre(properties: dict[str, str]) -> None:
    assert SlideCentre.of(properties, (10, 10)) is None


# -- what other programs call a class, and how they write numbers ----------------------------------


@pytest.mark.parametrize(
    "key",
    ["Classification", "pathClass", "Class", "annotation_type", "TYPE", "Tissue Type", "category"],
)
def test_a_class_under_any_usual_name_is_never_lost(tmp_path: Path, key: str) -> None:
    found = read(tmp_path, [feature(**{key: "Tumor"}), feature(AWAY, **{key: "Stroma"})])
    assert [a.role for a in found.items] == ["tumour", "excluded"]


def test_the_kind_of_a_shape_is_no_class(tmp_path: Path) -> None:
    found = read(tmp_path, [feature(type="Polygon", label="Stroma"), feature(AWAY, type="ROI")])
    assert [a.classification for a in found.items] == ["Stroma", ""]


def test_positions_with_decimal_commas(tmp_path: Path) -> None:
    points: Any = [("0,5", "10"), ("100,5", "10"), ("100,5", "60,25")]
    (area,) = read(tmp_path, imagescope(layers(region(points)))).items
    assert area.polygon.bounds == (0.5, 10, 100.5, 60.25)
    points[0] = ("1.000,5", "10")
    with pytest.raises(AnnotationError):
        read(tmp_path, imagescope(layers(region(points))))


def test_an_invisible_character_makes_no_other_class() -> None:
    assert role_of("\u200bTumor\u200b", SETTINGS.tumour) == "tumour"
