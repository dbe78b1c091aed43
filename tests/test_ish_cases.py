"""ISH as named cases: groups, statuses, categories, recounts, single probes, by guideline."""

from __future__ import annotations

import pytest

from her2path.scoring import ish

N = 20


def cells(her2, cep17, n=N, case="c", area="a", **more):
    """n cells whose sums are her2 and cep17 (spread as evenly as whole numbers allow)."""

    def share(total):
        return [total // n + (i < total % n) for i in range(n)]

    rows = {
        "case_id": [case] * n,
        "area_id": [area] * n,
        "cell_id": list(range(n)),
        "her2": share(her2),
        "cep17": [None] * n if cep17 is None else share(cep17),
    }
    return rows | {k: [v] * n for k, v in more.items()}


def stack(*tables):
    names = list(dict.fromkeys(k for t in tables for k in t))
    return {k: [v for t in tables for v in t.get(k, [None] * len(t["case_id"]))] for k in names}


# sums of 20 cells: 40 CEP17 is a mean of 2; 80 HER2 a mean of 4.0, 120 of 6.0
G1, G2, G3, G4, G5 = (80, 40), (79, 39), (120, 61), (80, 41), (79, 41)

# (name, guideline, sums, IHC, group, status, category)
E, P, NEG = "equivocal", "positive", "negative"
CASES = [
    ("ratio 2.0 and copies 4.0 exactly", "2018", G1, "2+", 1, P, P),
    ("ratio 2.0 exactly, copies 3.95", "2018", (78, 39), "1+", 2, NEG, "low"),
    ("ratio just below 2.0, copies 4.0", "2018", G4, "1+", 4, NEG, "low"),
    ("ratio just below 2.0, copies 6.0", "2018", G3, "2+", 3, "recount_due", E),
    ("ratio just below 2.0, copies 5.95", "2018", (119, 60), "1+", 4, NEG, "low"),
    ("ratio just below 2.0, copies 3.95", "2018", G5, "2+", 5, NEG, "low"),
    ("ratio 2.0 exactly, copies 6.0", "2018", (120, 60), "2+", 1, P, P),
    ("group 1 without IHC", "2018", G1, None, 1, P, P),
    ("group 1 at 0", "2018", G1, "0", 1, P, P),
    ("group 1 at 1+", "2018", G1, "1+", 1, P, P),
    ("group 1 at 3+", "2018", G1, "3+", 1, P, P),
    ("group 2 without IHC", "2018", G2, None, 2, "ihc_needed", E),
    ("group 2 at 0", "2018", G2, "0/null", 2, NEG, "null"),
    ("group 2 at ultralow", "2018", G2, "0/ultralow", 2, NEG, "ultralow"),
    ("group 2 at 1+", "2018", G2, "1+", 2, NEG, "low"),
    ("group 2 at 2+", "2018", G2, "2+", 2, "recount_due", E),
    ("group 2 at 3+", "2018", G2, "3+", 2, P, P),
    ("group 3 without IHC", "2018", G3, None, 3, "ihc_needed", E),
    ("group 3 at 0", "2018", G3, "0/null", 3, NEG, "null"),
    ("group 3 at 1+", "2018", G3, "1+", 3, NEG, "low"),
    ("group 3 at 3+", "2018", G3, "3+", 3, P, P),
    ("group 4 without IHC", "2018", G4, None, 4, "ihc_needed", E),
    ("group 4 at 0", "2018", G4, "0/null", 4, NEG, "null"),
    ("group 4 at 2+", "2018", G4, "2+", 4, "recount_due", E),
    ("group 4 at 3+", "2018", G4, "3+", 4, P, P),
    ("group 5 without IHC", "2018", G5, None, 5, NEG, None),
    ("group 5 at 0, substate unknown", "2018", G5, "0", 5, NEG, None),
    ("group 5 at null", "2018", G5, "0/null", 5, NEG, "null"),
    ("group 5 at 1+", "2018", G5, "1+", 5, NEG, "low"),
    ("group 5 at 2+ is low", "2018", G5, "2+", 5, NEG, "low"),
    ("group 5 at 3+ stays positive", "2018", G5, "3+", 5, NEG, P),
    ("2023 reads as 2018", "2023", G2, "2+", 2, "recount_due", E),
    ("2023 group 5", "2023", G5, "2+", 5, NEG, "low"),
    ("no HER2 signal", "2018", (0, 40), "0/null", 5, NEG, "null"),
    # 2013: ratio >= 2.0 or copies >= 6.0; equivocal from 4.0
    ("2013 ratio 2.0, few copies", "2013", (78, 39), "2+", 2, P, P),
    ("2013 copies 6.0, low ratio", "2013", G3, "2+", 3, P, P),
    ("2013 copies 5.95, low ratio", "2013", (119, 60), "2+", 4, E, E),
    ("2013 copies 4.0, low ratio", "2013", G4, "2+", 4, E, E),
    ("2013 copies 3.95, low ratio", "2013", G5, "2+", 5, NEG, NEG),
    ("2013 without IHC", "2013", G5, None, 5, NEG, NEG),
    ("2013 equivocal at 3+", "2013", G4, "3+", 4, E, P),
    ("2013 equivocal at 1+", "2013", G4, "1+", 4, E, NEG),
    # 2007: ratio alone for two probes
    ("2007 ratio 2.2 exactly", "2007", (88, 40), "2+", 1, E, E),
    ("2007 ratio above 2.2", "2007", (89, 40), "2+", 1, P, P),
    ("2007 ratio 1.8 exactly", "2007", (72, 40), "2+", 5, E, E),
    ("2007 ratio below 1.8", "2007", (71, 40), "2+", 5, NEG, NEG),
    ("2007 polysomy: many copies, low ratio", "2007", (140, 100), "2+", 3, NEG, NEG),
    # gastric: ratio >= 2.0, or more than 6 copies; 4-6 count more
    ("gastric ratio 2.0", "gastric_resection", (78, 39), "2+", 2, P, P),
    ("gastric copies 6.05", "gastric_resection", (121, 61), "2+", 3, P, P),
    ("gastric copies 6.0 exactly", "gastric_resection", G3, "2+", 3, "recount_due", E),
    ("gastric copies 4.0", "gastric_biopsy", G4, "2+", 4, "recount_due", E),
    ("gastric copies 3.95", "gastric_biopsy", G5, "2+", 5, NEG, NEG),
    ("gastric positive ISH at 1+", "gastric_resection", G1, "1+", 1, P, NEG),
    # endometrial: ratio alone
    ("endometrial ratio 2.0", "endometrial_serous", (78, 39), "2+", 2, P, P),
    ("endometrial ratio below, many copies", "endometrial_serous", G3, "2+", 3, NEG, NEG),
    ("endometrial positive by ISH at 1+", "endometrial_serous", G1, "1+", 1, P, P),
]  # fmt: skip


def name_of(guideline):
    return f"asco_cap_{guideline}" if guideline.isdigit() else guideline


@pytest.mark.parametrize(
    ("guideline", "sums", "ihc", "group", "status", "category"),
    [c[1:] for c in CASES],
    ids=[c[0] for c in CASES],
)
def test_dual_probe(guideline, sums, ihc, group, status, category):
    found = ish.interpret(cells(*sums), ihc=ihc, guideline=name_of(guideline))["cases"][0]
    assert (found["group"], found["status"]) == (group, status)
    assert found["category"] == category
    assert found["mean_her2"] == sums[0] / N
    assert found["ratio"] == sums[0] / sums[1]


# (name, guideline, HER2 sum of 20 cells, IHC, status, category)
SINGLE = [
    ("6.0 exactly", "2018", 120, "2+", P, P),
    ("5.95 without IHC", "2018", 119, None, "ihc_needed", E),
    ("4.0 exactly without IHC", "2018", 80, None, "ihc_needed", E),
    ("4.0 at 1+", "2018", 80, "1+", NEG, "low"),
    ("4.0 at 0", "2018", 80, "0/null", NEG, "null"),
    ("4.0 at 2+ needs a dual probe", "2018", 80, "2+", "ihc_needed", E),
    ("4.0 at 3+", "2018", 80, "3+", P, P),
    ("3.95", "2018", 79, "2+", NEG, "low"),
    ("2013 6.0", "2013", 120, "2+", P, P),
    ("2013 4.0", "2013", 80, "2+", E, E),
    ("2013 3.95", "2013", 79, "2+", NEG, NEG),
    ("2007 6.0 exactly", "2007", 120, "2+", E, E),
    ("2007 6.05", "2007", 121, "2+", P, P),
    ("2007 4.0", "2007", 80, "2+", E, E),
    ("2007 3.95", "2007", 79, "2+", NEG, NEG),
    ("heracles cannot", "heracles", 200, "2+", "not_evaluable", E),
    ("endometrial cannot", "endometrial_serous", 200, "2+", "not_evaluable", E),
]  # fmt: skip


@pytest.mark.parametrize(
    ("guideline", "her2", "ihc", "status", "category"),
    [c[1:] for c in SINGLE],
    ids=[c[0] for c in SINGLE],
)
def test_single_probe(guideline, her2, ihc, status, category):
    found = ish.interpret(cells(her2, None), ihc=ihc, guideline=name_of(guideline))["cases"][0]
    assert (found["status"], found["category"]) == (status, category)
    assert found["group"] is None
    assert found["ratio"] is None
    assert found["amplified_fraction"] is None
    assert found["probe"] == "single"


# (name, first count, recount, IHC, group, status, words in the comment)
RECOUNTS = [
    ("group 2 again", G2, G2, "2+", 2, NEG, "same group"),
    ("group 3 again", G3, G3, "2+", 3, P, "same group"),
    ("group 4 again", G4, G4, "2+", 4, NEG, "same group"),
    ("group 2 becomes 1", G2, G1, "2+", 1, P, "adjudicate"),
    ("group 2 becomes 5", G2, G5, "2+", 5, NEG, "adjudicate"),
    ("group 4 becomes 3", G4, G3, "2+", 3, P, "adjudicate"),
    ("group 3 becomes 4", G3, G4, "2+", 4, NEG, "adjudicate"),
    ("group 4 becomes 2", G4, G2, "2+", 2, NEG, "adjudicate"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("first", "again", "ihc", "group", "status", "words"),
    [c[1:] for c in RECOUNTS],
    ids=[c[0] for c in RECOUNTS],
)
def test_recount(first, again, ihc, group, status, words):
    table = stack(cells(*first, count_no=1), cells(*again, count_no=2))
    found = ish.interpret(table, ihc=ihc)["cases"][0]
    assert (found["group"], found["status"]) == (group, status)
    assert words in found["comment"]
    assert found["cells"] == N
    assert found["count_no"] == 2


def test_gastric_recount_settles():
    table = stack(cells(*G4, count_no=1), cells(*G4, count_no=2))
    found = ish.interpret(table, ihc="2+", guideline="gastric_resection")["cases"][0]
    assert found["status"] == "negative"


def test_a_recount_of_too_few_cells_does_not_decide():
    table = stack(cells(*G2, count_no=1), cells(40, 10, n=10, count_no=2))
    found = ish.interpret(table, ihc="2+")["cases"][0]
    assert (found["status"], found["group"], found["count_no"]) == ("recount_due", 2, 1)
    assert "too few cells" in found["comment"]


def test_comments_stand_beside_the_status():
    for sums, ihc, words in (
        (G2, "1+", "fewer than 4.0 copies"),
        (G3, "1+", "6.0 or more"),
        (G4, "1+", "uncertain"),
        (G1, "1+", "review both"),
        (G5, "3+", "review both"),
        (G2, "2+", "at least 20 more cells"),
    ):
        found = ish.interpret(cells(*sums), ihc=ihc)["cases"][0]
        assert words in found["comment"]
        assert " " not in found["status"]


def test_heracles_asks_for_half_of_the_cells():
    for amplified, status in ((10, "positive"), (9, "negative")):
        table = stack(
            cells(10 * amplified, 2 * amplified, n=amplified),
            cells(2 * (20 - amplified), 2 * (20 - amplified), n=20 - amplified, area="b"),
        )
        found = ish.interpret(table, ihc="2+", guideline="heracles")["cases"][0]
        assert found["amplified_fraction"] == amplified / 20
        assert found["status"] == status


def test_the_table_is_as_long_as_promised():
    assert len(CASES) + len(SINGLE) + len(RECOUNTS) >= 75
