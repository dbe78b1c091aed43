"""The manifest: everything wrong is said, with its row, before any work starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cohort_samples import SETTINGS, manifest
from hypothesis import given
from hypothesis import strategies as st

from her2path.core.errors import ManifestError
from her2path.runs.cohort.inputs import (
    case_counts,
    check_inputs,
    find_annotations,
    hide_names,
    read_tma_map,
    settings_for,
)
from her2path.runs.cohort.manifest import Entry, read_manifest, safe_name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.svs", "b.svs", "B2.svs"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    return tmp_path


def test_columns_and_defaults(folder: Path) -> None:
    (folder / "c.csv").write_text("case_id,area_id,cell_id,her2,cep17\nk1,1,1,2,2\n")
    path = manifest(folder, [
        {"slide": "a.svs", "case_id": "k1", "mpp": "0.25", "guideline": "heracles", "ish": "c.csv",
         "specimen": "biopsy", "timepoint": "2020-01-01", "scanner": "S", "note": "=x"},
        {"slide": str(folder / "b.svs")},
    ])  # fmt: skip
    one, two = read_manifest(path)
    assert (one.slide_id, one.case_id, one.folder, one.mpp) == ("a", "k1", "a", 0.25)
    assert one.ish == folder / "c.csv"
    assert one.extra == {"scanner": "S", "note": "=x"}
    assert (two.slide_id, two.case_id, two.timepoint) == ("b", "b", "")
    assert settings_for(one, SETTINGS).score.guideline == "heracles"
    assert settings_for(two, SETTINGS) is SETTINGS
    check_inputs(path, [one, two], SETTINGS)


def test_folder_and_semicolons_and_trailing_commas(folder: Path) -> None:
    assert [e.slide_id for e in read_manifest(folder)] == ["B2", "a", "b"]
    (folder / "m.csv").write_text("﻿slide;case_id;;\na.svs;x;;\n\n;;;\n", encoding="utf-8")
    assert [e.case_id for e in read_manifest(folder / "m.csv")] == ["x"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"slide": "a.svs"}, {"slide": "zz.svs"}], ["row 3", "zz.svs", "does not exist"]),
        ([{"slide": "b.svs"}, {"slide": "B2.svs", "slide_id": "B"}], ["rows 2 and 3", "twice"]),
        ([{"slide": "a.svs", "mpp": "9"}], ["row 2", "mpp"]),
        ([{"slide": "a.svs", "mpp": "nan"}], ["row 2", "mpp"]),
        ([{"slide": "", "case_id": "k"}], ["row 2", "slide is empty"]),
        ([{"slide": "x" * 5000}], ["row 2", "does not exist"]),
        ([{"slide": "a.svs", "case_id": "k"}, {"slide": "b.svs", "case_id": "K"}], ["capitals"]),
        ([{"slide": "a.svs", "ish": "/dev/zero"}], ["row 2", "ish", "not a file"]),
        ([{"slide": "a.svs", "annotations": "."}], ["row 2", "annotations", "not a file"]),
        ([{"slid": "a.svs"}], ["no column slide", "case_id"]),
        ([], ["is empty", "header"]),
    ],
)  # fmt: skip
def test_wrong_rows_are_named(folder: Path, rows: list[dict], words: list[str]) -> None:
    with pytest.raises(ManifestError) as caught:
        read_manifest(manifest(folder, rows))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [b"", b"\n\n", b"slide\n", b"slide,slide\na.svs,a.svs\n", b"\xff\xfe\x00", b"slide\na\0.svs\n",
     b'slide\n"a.svs\n', b"slide,case_id\na.svs\n"],
)  # fmt: skip
def test_broken_files_are_refused(folder: Path, data: bytes) -> None:
    (folder / "m.csv").write_bytes(data)
    with pytest.raises(ManifestError):
        read_manifest(folder / "m.csv")


def test_what_it_names_is_read_before_work_starts(folder: Path) -> None:
    (folder / "bad.csv").write_text("case_id,area_id\n1,2\n")
    (folder / "two.csv").write_text("case_id,area_id,cell_id,her2,cep17\nq,1,1,2,2\nr,1,1,2,2\n")
    path = manifest(folder, [
        {"slide": "a.svs", "ish": "bad.csv"}, {"slide": "b.svs", "ish": "two.csv"},
        {"slide": "B2.svs", "guideline": "asco_cap_1066", "tma_map": "bad.csv"},
    ])  # fmt: skip
    with pytest.raises(ManifestError) as caught:
        check_inputs(path, read_manifest(path), SETTINGS)
    text = str(caught.value)
    for word in ("row 2", "row 3", "'b'", "row 4", "asco_cap_1066"):
        assert word in text


@pytest.mark.parametrize(("encoding", "end"), [("utf-16", "\n"), ("cp1252", "\r"), ("utf-8", "\r")])
def test_spreadsheets_of_other_systems(folder: Path, encoding: str, end: str) -> None:
    text = end.join(["Slide;Case ID;MPP", "a.svs;J\u00fcrgen;0,25", "b.svs;J\u00fcrgen;0,5", ""])
    (folder / "m.csv").write_bytes(text.encode(encoding))
    assert [(e.case_id, e.mpp) for e in read_manifest(folder / "m.csv")] == [
        ("J\u00fcrgen", 0.25),
        ("J\u00fcrgen", 0.5),
    ]


def test_ids_that_look_alike(folder: Path) -> None:
    one = manifest(folder, [
        {"slide": "a.svs", "case_id": "Zo\u00eb"}, {"slide": "b.svs", "case_id": "Zoe\u0308 "},
        {"slide": "B2.svs", "case_id": "\u200bZo\u00eb\u00a0"},
    ])  # fmt: skip
    assert {e.case_id for e in read_manifest(one)} == {"Zo\u00eb"}
    for other in ("Zoe\u0308", " zo\u00eb", "\uff3ao\u00eb"):
        twice = manifest(folder, [{"slide": "a.svs", "slide_id": "Zo\u00eb"},
                                  {"slide": "b.svs", "slide_id": other}])  # fmt: skip
        with pytest.raises(ManifestError, match=r"rows 2 and 3: slide_id .* twice"):
            read_manifest(twice)
    forms = manifest(folder, [{"slide": "a.svs", "case_id": "P1"},
                              {"slide": "b.svs", "case_id": "P\uff11"}])  # fmt: skip
    with pytest.raises(ManifestError, match="forms of letters"):
        read_manifest(forms)


def test_files_are_found_as_the_disk_spells_them(folder: Path) -> None:
    (folder / "Zoe\u0308.svs").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.svs")).write_bytes(b"x")
    path = manifest(folder, [{"slide": "Zo\u00eb.svs"}, {"slide": "caf\u00e9.svs"}])
    assert [e.slide_id for e in read_manifest(path)] == ["Zo\u00eb", "caf\\xe9"]


@pytest.mark.parametrize(("first", "second", "words"), [
    ("03/02/2023", "15/12/2022", "can be read as 2023-02-03 or 2023-03-02"),
    ("2023-02-03", "baseline", "different kinds"),
])  # fmt: skip
def test_time_points_without_order_are_refused(
    folder: Path, first: str, second: str, words: str
) -> None:
    rows = [{"slide": "a.svs", "case_id": "k", "timepoint": first},
            {"slide": "b.svs", "case_id": "k", "timepoint": second}]  # fmt: skip
    path = manifest(folder, rows)
    with pytest.raises(ManifestError, match="rows 2, 3") as caught:
        check_inputs(path, read_manifest(path), SETTINGS)
    assert words in str(caught.value)
    (folder / "tma.csv").write_text("row,col,case_id\n1,1,t\n")
    path = manifest(folder, [r | {"case_id": f"own {n}", "tma_map": "tma.csv"}
                             for n, r in enumerate(rows)])  # fmt: skip
    with pytest.raises(ManifestError, match="rows 2, 3"):
        check_inputs(path, read_manifest(path), SETTINGS)


def test_counts_of_a_case_spelt_otherwise(folder: Path) -> None:
    head = "case_id,area_id,cell_id,her2,cep17\n"
    (folder / "c.csv").write_text(f"{head}Zoe\u0308 ,1,1,6,2\nother,1,1,2,2\n", encoding="utf-8")
    path = manifest(folder, [{"slide": "a.svs", "case_id": "Zo\u00eb", "ish": "c.csv"}])
    check_inputs(path, read_manifest(path), SETTINGS)
    found = case_counts(folder / "c.csv", "Zo\u00eb", "2+", SETTINGS)
    assert [(c["case_id"], c["cells"]) for c in found["cases"]] == [("Zo\u00eb", 1)]


def test_tma_map(tmp_path: Path) -> None:
    path = tmp_path / "tma.csv"
    path.write_text("row,col,case_id\n1,1,x\nB,12,y\n2,3,\n")
    assert read_tma_map(path) == {(1, 1): "x", (2, 12): "y"}
    for bad in ("row,col,case_id\n0,1,x\n", "row,col,case_id\n1,1,x\nA,1,y\n", "row,col\n1,1\n",
                "row,col,case_id\n1,1,\n", "row,col,case_id\n1,1e9,x\n"):  # fmt: skip
        path.write_text(bad)
        with pytest.raises(ManifestError):
            read_tma_map(path)


def test_hidden_names(folder: Path) -> None:
    path = manifest(folder, [
        {"slide": "a.svs", "case_id": "P1", "patient": "Jane Doe", "batch": "3"},
        {"slide": "b.svs", "patient": "J"},
    ])  # fmt: skip
    one, two = hide_names(read_manifest(path))
    assert one.folder == one.slide_id
    assert one.slide_id.startswith("slide-")
    assert one.case_id == "P1"
    assert one.extra == {"batch": "3"}
    assert two.case_id == two.slide_id.replace("slide", "case")


def test_a_pipe_among_slides_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.svs")
    names = [e.slide_id for e in hide_names(read_manifest(folder))]
    assert "slide-row4" in names
    assert len(names) == 4


def test_annotations_by_name(folder: Path) -> None:
    (folder / "ann").mkdir()
    (folder / "ann" / "a.geojson").write_text("{}")
    (folder / "ann" / "b.xml").write_text("<a/>")
    entries = find_annotations(read_manifest(folder), folder / "ann")
    found = {e.slide_id: e.annotations for e in entries}
    assert {k: v.name if v else None for k, v in found.items()} == {
        "B2": None, "a": "a.geojson", "b": "b.xml"}  # fmt: skip
    with pytest.raises(ManifestError):
        find_annotations([], folder / "a.svs")


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/abs", "a/b", "nul\0", "line\nfeed", "x" * 300, "😀", "=cmd()", "..", ".",
     "", "CON", "com1.svs", "-rf", "a b", "ünï", "a\\b", "<b>x</b>", os.fsdecode(b"\xff\xfe")],
)  # fmt: skip
def test_names_that_would_do_harm(name: str) -> None:
    _harmless(name)


@given(st.text(max_size=120))
def test_any_name_becomes_one_harmless_folder(name: str) -> None:
    _harmless(name)


def _harmless(name: str) -> None:
    tame = safe_name(name)
    assert 0 < len(tame) <= 80
    assert all(c.isascii() and (c.isalnum() or c in "._-") for c in tame)
    assert tame[0] not in ".-"
    assert tame.split(".")[0].casefold() not in ("con", "nul", "com1")
    assert safe_name(name) == tame


@given(st.lists(st.text(max_size=100), min_size=2, max_size=6, unique=True))
def test_two_names_stay_two(names: list[str]) -> None:
    assert len({safe_name(n) for n in names}) == len(names)


def test_entry_is_plain() -> None:
    assert Entry(1, Path("a"), "a", "a", "a").extra == {}
