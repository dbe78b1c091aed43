"""Agreement from reads to tree: pairs, missing and repeated reads, ISH, strata, differences."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import her2path as h2
from her2path.core.errors import ManifestError, UsageError
from her2path.io.reads import Read, outcome_of, read_outcome, read_reads, reads_of
from her2path.scoring.agreement import AgreeOptions, measure, parse_comparison
from her2path.scoring.agreement.onest import plateau
from her2path.scoring.agreement.outcome import firth, fisher

FAST = AgreeOptions(draws=200)


def column(reader: str, scores: str, start: int = 1, **more) -> list[Read]:
    """Return one reader's reads of cases c1, c2, ...; a dot is a missing read."""
    return [
        Read(0, f"c{k}", reader, None if s == "." else int(s), **more)
        for k, s in enumerate(scores, start)
    ]


def drawn(cases: int, readers: int, seed: int = 0, missing: float = 0.0) -> list[Read]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, cases)
    score = np.clip(truth + rng.choice([-1, 0, 1], (readers, cases), p=[0.15, 0.7, 0.15]), 0, 3)
    there = rng.random(score.shape) >= missing
    return [Read(0, f"c{c}", f"r{r}", int(score[r, c])) for r, c in np.argwhere(there)]


def of(tree: dict, a: str, b: str) -> dict:
    return next(p for p in tree["pairs"] if (p["a"], p["b"]) == (a, b))


# -- pairs -------------------------------------------------------------------------------------


def test_reference_comes_first_and_the_program_last() -> None:
    reads = [*column("her2path", "0123"), *column("r1", "0122"), *column("reference", "0123")]
    tree = measure(reads, FAST)
    assert [(p["a"], p["b"]) for p in tree["pairs"]] == [
        ("reference", "r1"),
        ("reference", "her2path"),
        ("r1", "her2path"),
    ]
    assert of(tree, "reference", "r1")["cutoffs"]["2+|3+"]["ppa"] == 0
    assert of(tree, "reference", "r1")["cutoffs"]["2+|3+"]["npa"] == 1
    assert tree["all"]["readers"] == 1
    assert tree["all_with_program"]["readers"] == 2


def test_every_figure_has_its_limits_beside_it() -> None:
    def check(tree: dict, path: str = "") -> int:
        seen = 0
        for name, value in tree.items():
            if isinstance(value, dict):
                seen += check(value, f"{path}.{name}")
            elif isinstance(value, float) and not name.endswith(("_low", "_high")):
                low, high = tree[f"{name}_low"], tree[f"{name}_high"]
                assert low is None or low - 1e-9 <= value <= high + 1e-9, f"{path}.{name}"
                seen += 1
        return seen

    tree = measure(drawn(60, 4, missing=0.1), FAST)
    assert sum(check(p) for p in tree["pairs"]) > 6 * 30
    assert check(tree["all"]) > 20
    json.dumps(tree, allow_nan=False)


def test_missing_reads_count_nowhere() -> None:
    tree = measure([*column("r1", "01.23"), *column("r2", "0112.")], FAST)
    assert of(tree, "r1", "r2")["n"] == 3
    assert of(tree, "r1", "r2")["exact"] == 1
    assert (tree["all"]["n"], tree["all"]["complete"]) == (3, 3)
    assert [r["missing"] for r in tree["readers"]] == [1, 1]


def test_the_first_read_counts_and_the_second_tells_of_the_reader() -> None:
    reads = [*column("r1", "0123", read_no=2), *column("r1", "0122"), *column("r2", "0122")]
    tree = measure(reads, FAST)
    assert of(tree, "r1", "r2")["exact"] == 1
    (own,) = tree["intra"]
    assert (own["reader"], own["first"], own["second"], own["n"]) == ("r1", 1, 2, 4)
    assert own["exact"] == 0.75


def test_one_reader_who_read_twice_is_enough() -> None:
    tree = measure([*column("r1", "0123"), *column("r1", "0133", read_no=2)], FAST)
    assert tree["pairs"] == []
    assert tree["intra"][0]["exact"] == 0.75


def test_slides_of_a_case_are_drawn_together() -> None:
    # ten slides a case, all alike: intervals are those of the cases, not of the slides
    scores = "0123" * 5
    other = "0122" * 5
    cases = [*column("r1", scores), *column("r2", other)]
    slides = [Read(0, r.case, r.reader, r.score, slide=f"s{k}") for r in cases for k in range(10)]
    one, ten = (of(measure(reads, FAST), "r1", "r2") for reads in (cases, slides))
    assert ten["n"] == 10 * one["n"]
    for name in ("exact", "exact_low", "exact_high"):
        assert ten[name] == pytest.approx(one[name])


def test_ish_is_the_reference_at_each_cut_off() -> None:
    reads = [
        Read(0, f"c{k}", "r1", s, ish=ish)
        for k, (s, ish) in enumerate(
            [(3, True), (2, True), (2, False), (1, False), (0, False), (1, None)]
        )
    ]
    row = of(measure(reads, FAST), "ish", "r1")
    assert row["n"] == 5
    assert (row["cutoffs"]["1+|2+"]["ppa"], row["cutoffs"]["1+|2+"]["npa"]) == (1, 2 / 3)
    assert (row["cutoffs"]["2+|3+"]["ppa"], row["cutoffs"]["2+|3+"]["npa"]) == (1 / 2, 1)
    assert row["kappa"]["plain"] is None


def test_null_ultralow_low_needs_what_was_told() -> None:
    reads = reads_of(
        [
            {"case_id": f"c{k}", "reader": reader, "score": score}
            for reader, scores in {
                "r1": ["0", "0+", "1+", "0+", "3+"],
                "r2": ["null", "0/ultralow", "2+", "null", "0"],
            }.items()
            for k, score in enumerate(scores)
        ]
    )
    # r1 writes 0+: a plain 0 is null; r2's plain 0 is neither
    cut = of(measure(reads, FAST), "r1", "r2")["cutoffs"]["null|ultralow|low"]
    assert cut["n"] == 4
    assert cut["opa"] == 3 / 4
    assert (cut["ppa"], cut["npa"]) == (2 / 3, 1)


def test_numbers_are_compared_too() -> None:
    reads = [
        Read(0, f"c{k}", r, 2, values={"h_score": v})
        for r, shift in (("r1", 0), ("r2", 10))
        for k, v in enumerate((100 + shift, 150 + shift, 180 + shift + (shift > 0), 90 + shift))
    ]
    found = of(measure(reads, FAST), "r1", "r2")["h_score"]
    assert (found["n"], found["bias"]) == (4, pytest.approx(10.25))
    assert found["sd"] == pytest.approx(0.5)
    assert found["loa_upper"] == pytest.approx(10.25 + 1.96 * 0.5)
    assert found["bias_low"] <= 10.25 <= found["bias_high"]


# -- all, ONEST, differences -------------------------------------------------------------------


def test_onest_is_the_mean_over_all_choices_of_readers() -> None:
    reads = drawn(40, 5)
    tree = measure(reads, FAST)
    table = np.array([[r.score for r in reads if r.reader == f"r{k}"] for k in range(5)])
    for point in tree["onest"]["exact"]:
        k = point["readers"]
        shares = [
            (table[list(c)] == table[c[0]]).all(0).mean()
            for c in itertools.combinations(range(5), k)
        ]
        assert point["opa"] == pytest.approx(np.mean(shares))
        assert min(shares) - 1e-9 <= point["lowest"] <= point["highest"] <= max(shares) + 1e-9
    assert tree["onest"]["exact"][-1]["opa"] == pytest.approx(tree["all"]["exact"])


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [([0.9, 0.8, 0.795, 0.79], 3), ([0.9, 0.8, 0.7], None), ([0.9, 0.899], 2), ([0.9], None)],
)
def test_plateau(shares: list[float], wanted: int | None) -> None:
    assert plateau(shares) == wanted


def test_difference_against_a_reference_is_that_of_the_pairs() -> None:
    reads = [
        *column("reference", "0123012301"),
        *column("r1", "0123112200"),
        *column("her2path", "0123012200"),
    ]
    tree = measure(reads, FAST)
    rows = {d["figure"]: d for d in tree["differences"]}
    pairs = [of(tree, "reference", name)["kappa"]["quadratic"] for name in ("her2path", "r1")]
    assert rows["kappa.quadratic"]["difference"] == pytest.approx(pairs[0] - pairs[1])
    assert rows["exact"]["difference"] == pytest.approx(0.1)
    assert rows["exact"]["minus"] == ["reference", "r1"]


def test_difference_rests_on_what_both_have_read() -> None:
    # where r1 has not read, the program is wrong: that is not held against it
    reads = [
        *column("reference", "01230123"),
        *column("r1", "0123...."),
        *column("her2path", "01231230"),
    ]
    row = measure(reads, FAST)["differences"][0]
    assert (row["n"], row["difference"]) == (4, 0)


def test_without_a_reference_the_program_takes_a_readers_place() -> None:
    reads = [
        *column("r1", "0123012301"),
        *column("r2", "0123012301"),
        *column("r3", "0123012311"),
        *column("her2path", "1123012301"),
    ]
    row = measure(reads, FAST)["differences"][0]
    # program with r2, r3: (0.9 + 0.8) / 2; r1 with them: (1.0 + 0.9) / 2
    assert row["of"] == ["other readers", "her2path"]
    assert row["difference"] == pytest.approx(0.85 - 0.95)


def test_non_inferior_only_where_the_interval_clears_the_margin() -> None:
    alike = drawn(300, 3)
    program = [Read(0, r.case, "her2path", r.score) for r in alike if r.reader == "r0"]
    good = measure([*alike, *program], FAST)["differences"][0]
    assert good["difference_low"] > -good["margin"]
    assert good["non_inferior"] is True
    worse = [Read(0, r.case, "her2path", (r.score + 2) % 4) for r in alike if r.reader == "r0"]
    bad = measure([*alike, *worse], FAST)["differences"][0]
    assert bad["non_inferior"] is False


def test_comparisons_that_were_asked_for() -> None:
    reads = drawn(50, 3)
    wanted = parse_comparison("cutoffs.1+|2+.opa:r0,r1:r0,r2")
    tree = measure(reads, AgreeOptions(draws=200, compare=(wanted,)))
    (row,) = tree["differences"]
    pairs = [of(tree, "r0", name)["cutoffs"]["1+|2+"]["opa"] for name in ("r1", "r2")]
    assert row["difference"] == pytest.approx(pairs[0] - pairs[1])
    with pytest.raises(UsageError, match="'r9', who has no read"):
        measure(reads, AgreeOptions(draws=200, compare=(parse_comparison("ac1:r0,r1:r0,r9"),)))


@pytest.mark.parametrize("text", ["ac1:r0,r1", "ac1:r0:r1", "nothing:r0,r1:r0,r2", "ac1:r0,:a,b"])
def test_comparisons_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_comparison(text)


def test_strata_are_measured_by_themselves() -> None:
    reads = drawn(40, 3)
    sites = {f"c{k}": "A" if k < 15 else "B" for k in range(39)}
    tree = measure(reads, FAST, {"site": sites})
    assert {k: v["cases"] for k, v in tree["strata"]["site"].items()} == {
        "A": 15,
        "B": 24,
        "not given": 1,
    }
    alone = measure([r for r in reads if sites.get(r.case) == "A"], FAST)
    assert tree["strata"]["site"]["A"]["pairs"] == alone["pairs"]
    assert tree["strata"]["site"]["not given"]["reason"] == "one case only"


def test_two_runs_are_the_same() -> None:
    assert measure(drawn(30, 4), FAST) == measure(drawn(30, 4), FAST)


@pytest.mark.parametrize(
    ("reads", "words"),
    [
        (column("r1", "0123"), "r1 is the only reader"),
        ([Read(0, "c1", "r1", 1), Read(0, "c1", "r2", 1)], "one case only"),
        ([*column("r1", "01"), *column("r2", "23", start=8)], "no two readers have read the same"),
        ([*column("r1", ".."), *column("r2", "..")], "no read has a score"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(reads: list[Read], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        measure(reads, FAST)


# -- outcome -----------------------------------------------------------------------------------


def test_none_of_16_against_78_of_141() -> None:
    finding = np.array([True] * 16 + [False] * 141)
    outcome = np.array([False] * 16 + [True] * 78 + [False] * 63)
    row = fisher(finding, outcome)
    assert (row["with"], row["without"]) == ({"n": 16, "positive": 0}, {"n": 141, "positive": 78})
    assert f"{row['p']:.1e}" == "1.3e-05"
    assert row["odds_ratio"] == row["odds_ratio_low"] == 0
    # at the exact upper limit the chance of no success in 16 is 2.5 %
    from scipy.stats import nchypergeom_fisher

    chance = nchypergeom_fisher(157, 78, 16, row["odds_ratio_high"]).cdf(0)
    assert chance == pytest.approx(0.025, rel=1e-4)


def test_firth_on_a_fourfold_table_adds_a_half_to_each_cell() -> None:
    pytest.importorskip("firthmodels")
    x = np.array([1.0] * 16 + [0.0] * 141)
    y = np.array([False] * 16 + [True] * 78 + [False] * 63)
    found = firth(x, y, two=True)
    # the penalty of a saturated model is that of half an observation more in every cell
    assert found["odds_ratio"] == pytest.approx((0.5 * 63.5) / (16.5 * 78.5), rel=1e-5)
    assert 0 < found["odds_ratio_low"] < found["odds_ratio"] < found["odds_ratio_high"] < 1
    assert found["p"] < 1e-4


def test_fisher_is_turned_round_with_the_outcome() -> None:
    finding = np.array([True] * 5 + [False] * 5)
    outcome = np.array([True] * 4 + [False] * 2 + [True] * 4)
    one, other = fisher(finding, outcome), fisher(finding, ~outcome)
    assert one["p"] == pytest.approx(other["p"])
    assert one["odds_ratio"] == pytest.approx(1 / other["odds_ratio"], rel=1e-6)


# -- READS.csv ---------------------------------------------------------------------------------


def write(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def test_reads_as_people_write_them(tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.csv",
        "Case_ID;Reader;Score;h_score;percent_2+;ISH;site;read_no",
        "c1;Müller;2;120,5;40;Positive;A;",
        "c1;b;1+;;;;A;1.0",
        ";;;;;;;",
        encoding="cp1252",
    )
    one, two = read_reads(path)
    assert (one.reader, one.score, one.ish, one.extra) == ("Müller", 2, True, {"site": "A"})
    assert one.values == {"h_score": 120.5, "percent_2+": 40.0}
    assert (two.score, two.read_no, two.row) == (1, 1, 3)


@pytest.mark.parametrize(
    ("encoding", "separator"),
    [
        ("utf-16", "\t"),
        ("utf-16-le", ";"),
        ("utf-8-sig", ","),
        ("cp1252", "\t"),
    ],
)
def test_reads_are_read_as_every_other_table(tmp_path: Path, encoding: str, separator: str) -> None:
    lines = [
        ["sep=" + separator],
        ["Case ID", "READER", "Score", "percent 3", "Seite"],
        ["Mu\u0308ller ", "A\u00e9", "2.0", '"1,5"' if separator == "," else "1,5", "L"],
        ["M\u00fcller", "b", "3+", '"12,25"' if separator == "," else "12,25", "R", ""],
    ]
    if encoding == "cp1252":  # which has no combining accent
        lines[2][0] = "M\u00fcller "
    path = tmp_path / "r.csv"
    path.write_bytes("\r\n".join(separator.join(c) for c in lines).encode(encoding))
    one, two = read_reads(path)
    assert one.case == two.case == "M\u00fcller"
    assert (one.score, one.reader, one.extra) == (2, "A\u00e9", {"seite": "L"})
    assert (one.values, two.values) == ({"percent_3": 1.5}, {"percent_3": 12.25})


def test_a_grouped_thousand_is_no_percentage(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", "case_id;reader;score;h_score;percent_3", "c;a;3;250,5;1.000")
    with pytest.raises(ManifestError, match="column percent_3"):
        read_reads(path)
    path = write(tmp_path / "r.csv", "case_id;reader;score;percent_3", "c;a;3;1.000")
    assert read_reads(path)[0].values == {"percent_3": 1.0}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("c1,r1,4+,,", "row 2, column score: '4\\+'"),
        (",r1,1+,,", "row 2, column case_id: empty"),
        ("c1,,1+,,", "column reader: empty"),
        ("c1,r1,1+,0,", "column read_no"),
        ("c1,r1,1+,,301", "column h_score: '301' is not a number from 0 to 300"),
        ("c1,r1,1+,,nan", "column h_score"),
        ("c1,r1,1+,", r"\(line 2\) has 4 fields"),
        ("c1,r2,1+,,\nc1,r2,2+,,", "rows 2 and 3: r2 reads case c1 twice"),
        ("c1,r2,1+,,\nC1,r1,2+,,", "differ in capitals"),
        ("c1,R2,1+,,\nc2,r2,2+,,", "capitals"),
    ],
)
def test_reads_that_cannot_be_used_name_their_row(tmp_path: Path, row: str, words: str) -> None:
    path = write(tmp_path / "r.csv", "case_id,reader,score,read_no,h_score", row)
    with pytest.raises(ManifestError, match=words):
        read_reads(path)


@pytest.mark.parametrize(
    "lines",
    [["case_id,reader"], [""], ["case_id,reader,score"], ["case_id,reader,score,score", "a,b,1,1"]],
)
def test_tables_that_are_no_reads(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(ManifestError):
        read_reads(write(tmp_path / "r.csv", *lines))


def test_a_case_that_is_ish_positive_and_negative(tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.csv", "case_id,reader,score,ish", "c1,a,1,positive", "c1,b,1,negative"
    )
    with pytest.raises(ManifestError, match="rows 2 and 3"):
        read_reads(path)


def test_a_slide_need_not_be_named_by_everyone() -> None:
    rows = [
        {"case_id": "c1", "reader": "a", "score": 1, "slide_id": "s"},
        {"case_id": "c1", "reader": "b", "score": 1, "slide_id": None},
    ]
    assert {r.item for r in reads_of(rows)} == {("c1", "s", "")}


def test_reads_from_other_tables() -> None:
    import pandas as pd
    import pyarrow as pa

    columns = {"case_id": ["c1", "c2"], "reader": ["a", "a"], "score": ["1+", None]}
    wanted = reads_of(columns)
    assert [r.score for r in wanted] == [1, None]
    assert reads_of(pa.table(columns)) == reads_of(pd.DataFrame(columns)) == wanted


@pytest.mark.parametrize("value", ["2", "yes", "0.5"])
def test_an_outcome_is_0_or_1(tmp_path: Path, value: str) -> None:
    with pytest.raises(ManifestError, match="row 2"):
        read_outcome(write(tmp_path / "o.csv", "case_id,pcr", f"c1,{value}"), "pCR")


def test_an_outcome_may_be_missing_but_not_both() -> None:
    rows = [(2, {"case_id": "c1", "y": ""}), (3, {"case_id": "c2", "y": "1"})]
    assert outcome_of(rows, "y", "o.csv") == {"c2": True}
    with pytest.raises(ManifestError, match="c2 is 0 and 1"):
        outcome_of([*rows, (4, {"case_id": "c2", "y": "0"})], "y", "o.csv")


def test_library_measures_what_is_at_hand(tmp_path: Path) -> None:
    table = {
        "case_id": ["c1", "c2", "c1", "c2"],
        "reader": ["a", "a", "b", "b"],
        "score": ["1+", "2+", "1+", "3+"],
    }
    tree = h2.agree(table, options=FAST)
    assert of(tree, "a", "b")["exact"] == 0.5
    assert list(tmp_path.iterdir()) == []
