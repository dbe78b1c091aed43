"""ISH tables: figures, heterogeneity, malformed input, files."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pyarrow as pa
import pytest

from her2path.core.errors import ManifestError, OutputError, SettingsError, UsageError
from her2path.core.intervals import wilson
from her2path.core.settings import Settings, load_settings
from her2path.scoring import ish

HEAD = "case_id,area_id,cell_id,her2,cep17"
SUMMARY = "case_id,area_id,cells,mean_her2,ratio"


def area(amplified, other, name, case="c"):
    """Cells with ratio 5 (amplified) and ratio 1."""
    n = amplified + other
    return {
        "case_id": [case] * n, "area_id": [name] * n, "cell_id": list(range(n)),
        "her2": [10] * amplified + [2] * other, "cep17": [2] * n,
    }  # fmt: skip


def stack(*tables):
    return {k: [v for t in tables for v in t[k]] for k in tables[0]}


def one_case(table, **how):
    return ish.interpret(table, **how)["cases"][0]


def from_text(tmp_path, text, **how):
    path = tmp_path / "COUNTS.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return ish.interpret(ish.read_counts(path), **how)


# --- figures -----------------------------------------------------------------------------------


def test_figures_by_hand(tmp_path):
    text = f"{HEAD}\nA,1,1,4,2\nA,1,2,3,2\nA,1,3,9,4\nA,1,4,5,0\nA,2,1,11,5\n"
    found = from_text(tmp_path, text)
    first, second = found["areas"]
    assert [first["area_id"], second["area_id"]] == ["1", "2"]
    assert (first["cells"], first["not_evaluable_cells"]) == (3, 1)
    assert first["mean_her2"] == 16 / 3
    assert first["mean_cep17"] == 8 / 3
    assert first["ratio"] == 2.0
    assert first["group"] == 1
    assert first["amplified_fraction"] == 2 / 3
    assert (first["amplified_low"], first["amplified_high"]) == wilson(2, 3)
    assert first["cap_2009_fraction"] == 1 / 3
    assert second["cap_2009_fraction"] == 0.0  # 11/5 is 2.2, not above it
    assert second["area_class"] == "indeterminate"
    case = found["cases"][0]
    assert (case["cells"], case["ratio"]) == (4, 27 / 13)
    assert case["status"] == "not_evaluable"


def test_amplified_at_the_ratio_exactly():
    table = area(0, 0, "a") | {
        "case_id": ["c"] * 3, "area_id": ["a"] * 3, "cell_id": [1, 2, 3],
        "her2": [4, 6, 5], "cep17": [2, 3, 3],
    }  # fmt: skip
    assert one_case(table)["amplified_fraction"] == 2 / 3
    finer = load_settings(None, ["ish.cell_ratio=1.6"])
    assert one_case(table, settings=finer)["amplified_fraction"] == 1.0


def test_one_cell_has_figures_but_no_status():
    found = ish.interpret(area(1, 0, "a"), ihc="2+")
    case = found["cases"][0]
    assert (case["cells"], case["group"], case["ratio"]) == (1, 1, 5.0)
    assert (case["status"], case["area_class"]) == ("not_evaluable", "indeterminate")
    assert case["category"] == "equivocal"


def test_only_cells_without_cep17_signal():
    table = area(0, 5, "a") | {"cep17": [0] * 5}
    found = ish.interpret(table)
    for row in (found["areas"][0], found["cases"][0]):
        assert (row["cells"], row["not_evaluable_cells"]) == (0, 5)
        for key in (
            "mean_her2",
            "mean_cep17",
            "ratio",
            "group",
            "amplified_fraction",
            "amplified_low",
            "cap_2009_fraction",
        ):
            assert row[key] is None
    json.loads(ish.json_text(found))


@pytest.mark.parametrize(
    ("amplified", "kind", "certain"),
    [(0, "negative", True), (5, "negative", False), (6, "heterogeneous", False),
     (25, "heterogeneous", True), (49, "heterogeneous", False), (50, "positive", False),
     (90, "positive", True)],
)  # fmt: skip
def test_area_classes(amplified, kind, certain):
    row = ish.interpret(area(amplified, 100 - amplified, "a"))["areas"][0]
    assert (row["area_class"], row["area_class_certain"]) == (kind, certain)


def test_nineteen_cells_are_indeterminate_twenty_are_not():
    assert ish.interpret(area(19, 0, "a"))["areas"][0]["area_class"] == "indeterminate"
    assert ish.interpret(area(20, 0, "a"))["areas"][0]["area_class"] == "positive"


def test_areas_of_two_slides_are_two_areas():
    one, two = area(20, 0, "1"), area(0, 20, "1")
    table = stack(one | {"slide_id": ["s1"] * 20}, two | {"slide_id": ["s2"] * 20})
    rows = ish.interpret(table)["areas"]
    assert [(r["slide_id"], r["amplified_fraction"]) for r in rows] == [("s1", 1.0), ("s2", 0.0)]


def test_order_of_cells_changes_nothing():
    table = stack(area(30, 10, "a"), area(5, 25, "b"))
    swap = np.random.default_rng(3).permutation(70)
    mixed = {k: [v[i] for i in swap] for k, v in table.items()}
    assert ish.interpret(mixed)["cases"] == ish.interpret(table)["cases"]


# --- heterogeneity -----------------------------------------------------------------------------


def verdicts(*areas, ihc="2+", **how):
    case = one_case(stack(*areas), ihc=ihc, **how)
    return case["heterogeneous"], case


def test_filho_needs_a_positive_case_and_a_mixed_area():
    found, case = verdicts(area(40, 0, "a"), area(8, 32, "b"))
    assert case["category"] == "positive"
    assert found["filho_2021"] is True
    assert "b" in found["reasons"]["filho_2021"]
    assert verdicts(area(40, 0, "a"), area(0, 40, "b"))[0]["filho_2021"] is True
    assert verdicts(area(40, 0, "a"), area(30, 10, "b"))[0]["filho_2021"] is False
    negative, case = verdicts(area(4, 36, "a"), area(0, 40, "b"))
    assert case["category"] == "low"
    assert negative["filho_2021"] is False


def test_filho_counts_an_area_that_is_negative_by_its_own_ish():
    # 21 of 40 cells amplified at ratio 2, the others at 1: the area's own ratio is below 2.0
    weak = area(0, 40, "b") | {"her2": [4] * 21 + [1] * 19}
    found, case = verdicts(area(60, 0, "a"), weak)
    assert case["category"] == "positive"
    assert found["filho_2021"] is True


def test_filho_is_open_while_the_category_is():
    found, case = verdicts(area(0, 40, "a") | {"her2": [5] * 40, "cep17": [3] * 40})
    assert case["status"] == "recount_due"
    assert found["filho_2021"] is None
    assert found["reasons"]["filho_2021"]


@pytest.mark.parametrize(
    ("above", "strict", "inclusive"),
    [(4, False, False), (5, False, True), (6, True, True), (49, True, True), (50, False, False),
     (0, False, False), (100, False, False)],
)  # fmt: skip
def test_cap_2009(above, strict, inclusive):
    table = area(above, 100 - above, "a")
    assert one_case(table)["heterogeneous"]["cap_2009"] is strict
    wide = load_settings(None, ["ish.cap_inclusive=true"])
    assert one_case(table, settings=wide)["heterogeneous"]["cap_2009"] is inclusive


def test_cap_2009_needs_a_ratio_above_2_2():
    table = area(0, 100, "a") | {"her2": [11] * 30 + [5] * 70, "cep17": [5] * 100}
    assert one_case(table)["heterogeneous"]["cap_2009"] is False
    table["her2"] = [12] * 30 + [5] * 70
    assert one_case(table)["heterogeneous"]["cap_2009"] is True


@pytest.mark.parametrize(
    ("amplified", "found"), [(10, False), (11, True), (40, True), (100, False), (0, False)]
)
def test_separate_population(amplified, found):
    case = one_case(area(amplified, 100 - amplified, "a"), ihc="2+")
    assert case["heterogeneous"]["asco_cap"] is found


def test_verdicts_without_cells_have_reasons():
    table = {"case_id": ["c"], "area_id": ["a"], "cells": [40], "mean_her2": [8.0], "ratio": [4.0]}
    found = one_case(table, ihc="2+")["heterogeneous"]
    assert (found["filho_2021"], found["cap_2009"], found["asco_cap"]) == (None, None, None)
    assert all(found["reasons"].values())


# --- summary tables ----------------------------------------------------------------------------


def test_summary_is_exact_at_the_limits(tmp_path):
    text = "case_id,area_id,cells,mean_her2,ratio\nA,1,20,4.0,2.0\nB,1,20,3.99,2.0\nC,1,20,6.0,1.99"
    found = from_text(tmp_path, text, ihc={"A": "2+", "B": "1+", "C": "3+"})
    assert [c["group"] for c in found["cases"]] == [1, 2, 3]
    assert [c["status"] for c in found["cases"]] == ["positive", "negative", "positive"]
    assert found["cases"][0]["amplified_fraction"] is None
    assert found["cases"][0]["mean_cep17"] == 2.0
    assert found["areas"][0]["area_class"] == "indeterminate"


def test_summary_pools_sum_over_sum():
    table = {
        "case_id": ["c", "c"], "area_id": ["a", "b"], "cells": [30, 10],
        "mean_her2": [4.0, 8.0], "mean_cep17": [2.0, 2.0],
    }  # fmt: skip
    case = one_case(table, ihc="2+")
    assert (case["cells"], case["mean_her2"], case["mean_cep17"]) == (40, 5.0, 2.0)
    assert case["ratio"] == 2.5


def test_summary_of_a_single_probe():
    table = {"case_id": ["c"], "area_id": ["a"], "cells": [20], "mean_her2": [6.0], "ratio": [None]}
    case = one_case(table)
    assert (case["status"], case["group"], case["ratio"]) == ("positive", None, None)


def test_summary_below_the_minimum():
    table = {"case_id": ["c"], "area_id": ["a"], "cells": [19], "mean_her2": [6.0], "ratio": [3.0]}
    assert one_case(table)["status"] == "not_evaluable"
    assert one_case(table)["group"] == 1


# --- IHC ---------------------------------------------------------------------------------------


def test_given_ihc_wins_over_the_column():
    table = area(0, 20, "a") | {"ihc": ["2+"] * 20}
    assert one_case(table)["category"] == "low"
    assert one_case(table, ihc="3+")["category"] == "positive"
    assert one_case(table, ihc={"other": "3+"})["ihc"] == "2+"


@pytest.mark.parametrize("text", ["2+", "2", " 2+ ", "2.0", "IHC 2+"])
def test_ihc_as_people_write_it(text):
    assert one_case(area(0, 20, "a"), ihc=text)["ihc"] == "2+"


@pytest.mark.parametrize("text", ["4+", "x", "-1", "2.5"])
def test_wrong_ihc(text):
    with pytest.raises(UsageError, match="no IHC score"):
        ish.interpret(area(0, 20, "a"), ihc=text)


def test_unknown_guideline():
    with pytest.raises(SettingsError, match="asco_cap_2018"):
        ish.interpret(area(0, 20, "a"), guideline="asco_cap_1999")


# --- malformed tables --------------------------------------------------------------------------

BAD = [
    ("missing cep17", "case_id,area_id,cell_id,her2\nA,1,1,4\n", "no column cep17"),
    ("missing case and area", "cell_id,her2,cep17\n1,4,2\n", "case_id, area_id"),
    ("missing cell_id", "case_id,area_id,her2,cep17\nA,1,4,2\n", "cell_id"),
    ("nothing known", "x,y\n1,2\n", "no column case_id"),
    ("summary without ratio", "case_id,area_id,cells,mean_her2\nA,1,20,4\n", "ratio"),
    ("negative her2", f"{HEAD}\nA,1,1,4,2\nA,1,2,-4,2\n",
     r"row 2 \(line 3\), column her2: -4 is negative"),
    ("negative cep17", f"{HEAD}\nA,1,1,4,-1\n", r"row 1 \(line 2\), column cep17: -1 is negative"),
    ("text count", f"{HEAD}\nA,1,1,many,2\n", r"row 1.*column her2: 'many' is not a whole"),
    ("text cep17", f"{HEAD}\nA,1,1,4,n/a\n", "row 1.*column cep17: 'n/a'"),
    ("half a signal", f"{HEAD}\nA,1,1,4.5,2\n", "row 1.*column her2: '4.5' is not a whole"),
    ("nan", f"{HEAD}\nA,1,1,nan,2\n", "row 1.*column her2: 'nan'"),
    ("infinity", f"{HEAD}\nA,1,1,4,inf\n", "row 1.*column cep17: 'inf'"),
    ("exponent", f"{HEAD}\nA,1,1,1e9,2\n", "row 1.*column her2"),
    ("absurd count", f"{HEAD}\nA,1,1,99999999999999999999,2\n", "row 1.*column her2.*outside"),
    ("empty her2", f"{HEAD}\nA,1,1,,2\n", "row 1.*column her2: empty"),
    ("empty case", f"{HEAD}\n,1,1,4,2\n", "row 1.*column case_id: empty"),
    ("empty area", f"{HEAD}\nA,,1,4,2\n", "row 1.*column area_id: empty"),
    ("empty cell", f"{HEAD}\nA,1,,4,2\n", "row 1.*column cell_id: empty"),
    ("twin cells", f"{HEAD}\nA,1,1,4,2\nA,1,2,4,2\nA,1,1,4,2\n",
     r"row 3 \(line 4\), column cell_id: cell '1'.*row 1 \(line 2\)"),
    ("cep17 in some rows", f"{HEAD}\nA,1,1,4,2\nA,1,2,4,\n", "row 2.*column cep17: empty"),
    ("two IHC scores", f"{HEAD},ihc\nA,1,1,4,2,2+\nA,1,2,4,2,3+\n", "row 2.*column ihc: 3.*2"),
    ("wrong IHC", f"{HEAD},ihc\nA,1,1,4,2,strong\n", "row 1.*column ihc: 'strong'"),
    ("count_no 0", f"{HEAD},count_no\nA,1,1,4,2,0\n", "row 1.*column count_no"),
    ("count_no text", f"{HEAD},count_no\nA,1,1,4,2,second\n", "row 1.*column count_no"),
    ("short row", f"{HEAD}\nA,1,1,4\n", r"row 1 \(line 2\) has 4 fields.*5 columns"),
    ("long row", f"{HEAD}\nA,1,1,4,2,9\n", "row 1.*has 6 fields"),
    ("column twice", "case_id,area_id,cell_id,her2,her2\nA,1,1,4,2\n", "'her2' stands twice"),
    ("no rows", f"{HEAD}\n", "no rows"),
    ("empty file", "", "is empty"),
    ("blank file", "\n\n  \n", "is empty"),
    ("binary", b"PK\x03\x04\x00\x00\x00", "not a text table"),
    ("summary ratio 0", "case_id,area_id,cells,mean_her2,ratio\nA,1,20,4,0\n", "column ratio"),
    ("summary text", f"{SUMMARY}\nA,1,20,4,two\n", "column ratio: 'two'"),
    ("summary negative", f"{SUMMARY}\nA,1,20,-4,2\n", "mean_her2.*negat"),
    ("summary twins", f"{SUMMARY}\nA,1,20,4,2\nA,1,9,4,2\n", "row 2.*area"),
    ("summary cells", "case_id,area_id,cells,mean_her2,ratio\nA,1,few,4,2\n", "column cells"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_malformed_files_name_row_and_column(tmp_path, text, words):
    with pytest.raises(ManifestError, match=words) as caught:
        from_text(tmp_path, text)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(ManifestError, match="cannot be read"):
        ish.read_counts(tmp_path / "none.csv")


def test_bad_tables_in_memory():
    with pytest.raises(ManifestError, match="not a table"):
        ish.interpret(17)
    with pytest.raises(ManifestError, match="row 2, column her2: -1"):
        ish.interpret(area(0, 3, "a") | {"her2": [1, -1, 1]})


def test_thousands_and_decimal_commas(tmp_path):
    head = SUMMARY.replace(",", ";")
    case = from_text(tmp_path, f"{head}\nA;1;1.000;7,5;3,2\n")["cases"][0]
    assert (case["cells"], case["mean_her2"], case["ratio"]) == (1000, 7.5, 3.2)
    assert case["status"] == "positive"
    case = from_text(tmp_path, f'{SUMMARY}\nA,1,"1,000",7.5,3.2\n')["cases"][0]
    assert (case["cells"], case["mean_her2"]) == (1000, 7.5)
    # no mean reaches 7500: nothing else in the table tells what the point is
    case = from_text(tmp_path, f"{head}\nA;1;20;7.500;3.200\n")["cases"][0]
    assert (case["mean_her2"], case["ratio"]) == (7.5, 3.2)
    for cells, mean in (("1.000", "7.5"), ("1.000", "7"), ("1,000", "7,5"), ("1.000", "7.500")):
        with pytest.raises(ManifestError, match=r"row 1.*column cells: .* as 1 or as 1000"):
            from_text(tmp_path, f"{head}\nA;1;{cells};{mean};3\n")
    with pytest.raises(ManifestError, match=r"row 1.*column mean_her2: '7.500'"):
        from_text(tmp_path, f"{head}\nA;1;20;7.500;3,2\n")
    with pytest.raises(ManifestError, match=r"column her2: '4\.000'"):
        from_text(tmp_path, f"{HEAD}\nA,1,1,4.000,2\n")


def test_numbers_in_memory_are_no_text():
    table = {"case_id": ["A"], "area_id": ["1"], "cells": [1000.0], "mean_her2": [7.125],
             "ratio": [3.25]}  # fmt: skip
    case = ish.interpret(table)["cases"][0]
    assert (case["cells"], case["mean_her2"], case["ratio"]) == (1000, 7.125, 3.25)


def test_case_ids_that_look_alike_are_one_case(tmp_path):
    text = f"{HEAD}\nZo\u00eb,1,1,4,2\n Zoe\u0308\u00a0,1,2,4,2\n"
    assert [c["cells"] for c in from_text(tmp_path, text)["cases"]] == [2]


BODY = "A,1,1,4,2\nA,1,2,6,2\n"
READABLE = [
    ("byte-order mark", b"\xef\xbb\xbf" + f"{HEAD}\n{BODY}".encode()),
    ("semicolons", f"{HEAD}\n{BODY}".replace(",", ";").encode()),
    ("tabs", f"{HEAD}\n{BODY}".replace(",", "\t").encode()),
    ("Windows lines", f"{HEAD}\n{BODY}".replace("\n", "\r\n").encode()),
    ("UTF-16", f"{HEAD}\n{BODY}".encode("utf-16")),
    ("capitals and blanks", f"Case_ID , Area_ID,cell_id, HER2 ,CEP17\n{BODY}".encode()),
    ("blank lines", f"\n{HEAD}\n\n{BODY}\n\n".encode()),
    ("decimal noughts", f"{HEAD}\nA,1,1,4.0,2.0\nA,1,2,6.0,2.0\n".encode()),
    ("columns in another order", b"her2,cep17,cell_id,area_id,case_id\n4,2,1,1,A\n6,2,2,1,A\n"),
    ("unknown column", f"{HEAD},colour\nA,1,1,4,2,red\nA,1,2,6,2,blue\n".encode()),
    ("quoted", f'{HEAD}\n"A","1","1","4","2"\nA,1,2,6,2\n'.encode()),
]  # fmt: skip


@pytest.mark.parametrize("raw", [r[1] for r in READABLE], ids=[r[0] for r in READABLE])
def test_readable_files(tmp_path, raw):
    case = from_text(tmp_path, raw)["cases"][0]
    assert (case["case_id"], case["cells"], case["ratio"]) == ("A", 2, 2.5)


def test_windows_1252_names(tmp_path):
    raw = f"{HEAD}\nMüller,1,1,4,2\n".encode("cp1252")
    assert from_text(tmp_path, raw)["cases"][0]["case_id"] == "Müller"


def test_decimal_commas_in_a_semicolon_file(tmp_path):
    text = "case_id;area_id;cells;mean_her2;ratio\nA;1;20;4,5;2,25\n"
    case = from_text(tmp_path, text)["cases"][0]
    assert (case["mean_her2"], case["ratio"]) == (4.5, 2.25)


def test_every_kind_of_table_agrees():
    pandas = pytest.importorskip("pandas")
    table = area(12, 18, "a")
    wanted = ish.interpret(table)
    assert ish.interpret(pandas.DataFrame(table)) == wanted
    assert ish.interpret(pa.table(table)) == wanted
    # a column with missing values reads as floats in pandas
    single = pandas.DataFrame(table | {"cep17": [float("nan")] * 30})
    assert ish.interpret(single)["cases"][0]["probe"] == "single"


# --- files -------------------------------------------------------------------------------------


def test_files(tmp_path):
    table = stack(area(20, 0, "a", "=cmd()"), area(5, 15, "-b", "=cmd()"))
    result = ish.interpret(table, ihc="2+")
    assert result["cases"][0]["case_id"] == "=cmd()"
    ish.write(result, tmp_path / "out")
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["ish.json", "ish_areas.csv", "ish_cases.csv"]
    text = (tmp_path / "out" / "ish.json").read_text(encoding="utf-8")
    assert text == ish.json_text(result)
    assert json.loads(text) == result
    areas = list(csv.DictReader(io.StringIO((tmp_path / "out" / "ish_areas.csv").read_text())))
    assert [a["area_id"] for a in areas] == ["a", "'-b"]
    assert areas[0]["case_id"] == "'=cmd()"
    cases = list(csv.DictReader(io.StringIO((tmp_path / "out" / "ish_cases.csv").read_text())))
    assert cases[0]["category"] == "HER2-positive"
    assert cases[0]["heterogeneous_filho_2021"] == "true"
    assert cases[0]["ihc"] == "2+"
    assert float(cases[0]["ratio"]) == result["cases"][0]["ratio"]


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        ish.write(ish.interpret(area(20, 0, "a")), tmp_path / "file" / "out")


def test_null_category_is_written_in_words(tmp_path):
    result = ish.interpret(area(0, 20, "a"), ihc="0/null")
    assert result["cases"][0]["category"] == "null"
    ish.write(result, tmp_path)
    assert "HER2-null" in (tmp_path / "ish_cases.csv").read_text()


def test_areas_and_the_chance_of_a_false_alarm_stand_in_the_case_row():
    from scipy import stats

    cells = {
        "case_id": ["c"] * 90,
        "area_id": np.repeat(["1", "2", "3"], 30),
        "cell_id": np.arange(90),
        "her2": [12] * 60 + [12] * 9 + [2] * 21,
        "cep17": [2] * 90,
    }
    row = ish.interpret(cells, ihc="2+")["cases"][0]
    assert [
        row[f"areas_{k}"] for k in ("positive", "heterogeneous", "negative", "indeterminate")
    ] == [2, 1, 0, 0]
    expected = 1 - stats.binom.sf(14, 30, 69 / 90) ** 3
    assert row["false_alarm_probability"] == pytest.approx(expected)
    assert row["false_alarm_probability_correlated"] > expected
    few = {k: v[:10] for k, v in cells.items()}
    none = ish.interpret(few, ihc="2+")["cases"][0]
    assert none["false_alarm_probability"] is None


def test_cap_limits_are_settings():
    cells = {
        "case_id": ["c"] * 100,
        "area_id": ["1"] * 100,
        "cell_id": np.arange(100),
        "her2": [10] * 8 + [2] * 92,
        "cep17": [2] * 100,
    }
    for low, expected in ((0.05, True), (0.08, False), (0.10, False)):
        how = Settings().replace({"ish.cap_low": low})
        row = ish.interpret(cells, settings=how)["cases"][0]
        assert row["heterogeneous"]["cap_2009"] is expected
    how = Settings().replace({"ish.cap_low": 0.08, "ish.cap_inclusive": True})
    assert ish.interpret(cells, settings=how)["cases"][0]["heterogeneous"]["cap_2009"] is True


def test_point_tables_hold_the_cells_that_decide():
    cells = {"case_id": ["c"] * 5, "area_id": ["1", "1", "2", "2", "2"],
             "cell_id": ["1", "2", "1", "2", "3"], "her2": [1, 2, 3, 4, 5], "cep17": [2] * 5,
             "x_um": [1.5, 2, 3, 4, 5], "y_um": [0, 0, 0, 0, -7]}  # fmt: skip
    assert ish.point_tables(cells) == {"c": {
        "area_id": ["1", "1", "2", "2", "2"], "her2": [1, 2, 3, 4, 5], "cep17": [2] * 5,
        "x_um": [1.5, 2, 3, 4, 5], "y_um": [0, 0, 0, 0, -7],
    }}  # fmt: skip
    some = cells | {"x_um": [1.5, 2, 3, 4, None], "y_um": [0, 0, 0, 0, None]}
    assert "x_um" not in ish.point_tables(some)["c"]
    single = cells | {"cep17": [None] * 5}
    assert ish.point_tables(single) == {}


@pytest.mark.parametrize(
    ("x", "said"),
    [("", "empty"), ("east", "no position"), ("1e9", "no position"), ("inf", "no position")],
)
def test_positions_that_are_none_are_refused(x, said):
    cells = {
        "case_id": ["c"],
        "area_id": ["1"],
        "cell_id": ["1"],
        "her2": [4],
        "cep17": [2],
        "x_um": [x],
        "y_um": ["3"],
    }
    with pytest.raises(ManifestError, match=f"row 1, column x_um: .*{said}"):
        ish.interpret(cells)


def test_the_command_measures_points_of_several_areas(tmp_path, capsys):
    from her2path.cli import main

    rng = np.random.default_rng(3)
    lines = ["case_id,area_id,cell_id,her2,cep17,x_um,y_um"]
    for area in (1, 2, 3):
        for i in range(60):
            x, y = rng.uniform(0, 300, 2) + 1000 * area
            lines.append(f"c,{area},{i},{12 if area == 1 else 2},2,{x:.1f},{y:.1f}")
    lines += [f"means,{a},{i},4," for a in (1, 2) for i in range(25)]
    lines[-50:] = [f"{line},," for line in lines[-50:]]
    (tmp_path / "k.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(SystemExit, match="0"):
        main(["ish", str(tmp_path / "k.csv"), "-o", str(tmp_path / "out"), "--quiet"])
    told = json.loads((tmp_path / "out" / "ish.json").read_text())
    case, single = told["cases"]
    h = case["heterogeneity"]
    assert h["basis"] == "ish"
    assert h["pattern"]["type"] == "clustered"
    assert h["areas"]["heterogeneous_case"] is case["heterogeneous"]["filho_2021"] is True
    assert h["definitions"]["cluster"]["value"] is True
    assert h["bystander"]["coverage"][0] == pytest.approx(1 / 3)
    assert single["heterogeneity"] is None
    assert "heterogeneity" not in (tmp_path / "out" / "ish_cases.csv").read_text().split("\n")[0]
    capsys.readouterr()


def test_group_5_at_ihc_3_says_both_bases_in_words():
    """ISH negative, IHC 3+: the status is ISH's own, the category is the case's; both are told."""
    row = ish.interpret(area(2, 20, "a"), ihc="3+")["cases"][0]
    assert (row["group"], row["status"], row["category"]) == (5, "negative", "positive")
    assert row["category_basis"] == "IHC 3+, ISH negative"
    assert "ISH alone is negative" in row["comment"]
    assert "IHC 3+ alone makes the case HER2-positive" in row["comment"]
    verdict, why = (row["heterogeneous"]["filho_2021"], row["heterogeneous"]["reasons"])
    assert verdict is True
    assert why["filho_2021"].startswith("HER2-positive by IHC 3+, though ISH alone is negative; ")
    agreeing = ish.interpret(area(8, 20, "a"), ihc="3+")["cases"][0]
    assert "though" not in agreeing["heterogeneous"]["reasons"]["filho_2021"]
