"""The score table: every edge of every rule set, as named cases."""

from __future__ import annotations

import pytest

from her2path.scoring import guidelines

SHORT = {
    "n": "none", "fi": "faint_incomplete", "fc": "faint_complete", "mi": "moderate_incomplete",
    "mc": "moderate_complete", "ii": "intense_incomplete", "ic": "intense_complete",
}  # fmt: skip

# (name, guideline, cells by pattern; the rest up to `of` are unstained, ihc, substate, category,
# flags that must be raised)
B18, B13, B07 = "asco_cap_2018", "asco_cap_2013", "asco_cap_2007"
GR, HE, EN = "gastric_resection", "heracles", "endometrial_serous"
CASES = [
    # 2018: intense complete
    ("2018 3+ all", B18, "ic=1000", "3+", None, "positive", ""),
    ("2018 3+ just above 10 %", B18, "ic=101", "3+", None, "positive", ""),
    ("2018 10.0 % exactly is focal", B18, "ic=100", "2+", None, "equivocal", "FOCAL_3P"),
    ("2018 focal 5 %", B18, "ic=50", "2+", None, "equivocal", "FOCAL_3P"),
    ("2018 focal just above floor", B18, "ic=11", "2+", None, "equivocal", "FOCAL_3P"),
    ("2018 intense at floor is noise", B18, "ic=10", "0", "null", "null", ""),
    ("2018 intense at floor in moderate", B18, "ic=10 mc=90", "0", "ultralow", "ultralow",
     "OUTSIDE_DEFINITION"),
    ("2018 intense at floor tips moderate", B18, "ic=10 mc=91", "2+", None, "equivocal", ""),
    # 2018: moderate complete
    ("2018 moderate complete 10.0 %", B18, "mc=100", "0", "ultralow", "ultralow",
     "OUTSIDE_DEFINITION"),
    ("2018 moderate complete 10.1 %", B18, "mc=101", "2+", None, "equivocal", ""),
    ("2018 moderate complete 40 %", B18, "mc=400", "2+", None, "equivocal", ""),
    ("2018 moderate complete 100 %", B18, "mc=1000", "2+", None, "equivocal", ""),
    # 2018: incomplete moderate to intense
    ("2018 moderate incomplete 40 %", B18, "mi=400", "2+", None, "equivocal", "BASOLATERAL"),
    ("2018 moderate incomplete 10.0 %", B18, "mi=100", "0", "ultralow", "ultralow",
     "OUTSIDE_DEFINITION"),
    ("2018 moderate incomplete 10.1 %", B18, "mi=101", "2+", None, "equivocal", "BASOLATERAL"),
    ("2018 intense incomplete 40 %", B18, "ii=400", "2+", None, "equivocal", "BASOLATERAL"),
    ("2018 intense incomplete 100 %", B18, "ii=1000", "2+", None, "equivocal", "BASOLATERAL"),
    ("2018 complete and incomplete together", B18, "mc=60 mi=50", "2+", None, "equivocal",
     "BASOLATERAL"),
    ("2018 incomplete 10 % in faint", B18, "mi=100 fi=500", "1+", None, "low",
     "OUTSIDE_DEFINITION"),
    # 2018: faint
    ("2018 faint incomplete 10.0 %", B18, "fi=100", "0", "ultralow", "ultralow", ""),
    ("2018 faint incomplete 10.1 %", B18, "fi=101", "1+", None, "low", ""),
    ("2018 faint incomplete 100 %", B18, "fi=1000", "1+", None, "low", ""),
    ("2018 faint complete 10.0 %", B18, "fc=100", "0", "ultralow", "ultralow", ""),
    ("2018 faint complete 10.1 %", B18, "fc=101", "1+", None, "low", "FAINT_COMPLETE"),
    ("2018 faint complete 100 %", B18, "fc=1000", "1+", None, "low", "FAINT_COMPLETE"),
    ("2018 faint mixed 10.1 %", B18, "fc=50 fi=51", "1+", None, "low", ""),
    ("2018 faint above floor", B18, "fi=11", "0", "ultralow", "ultralow", ""),
    ("2018 faint at floor", B18, "fi=10", "0", "null", "null", ""),
    ("2018 one cell of 1000", B18, "fi=1", "0", "null", "null", ""),
    ("2018 unstained", B18, "", "0", "null", "null", ""),
    ("2018 moderate 5 % in faint 20 %", B18, "mc=50 fi=150", "1+", None, "low",
     "OUTSIDE_DEFINITION"),
    ("2018 moderate 5 % alone", B18, "mc=50", "0", "ultralow", "ultralow", "OUTSIDE_DEFINITION"),
    ("2018 moderate at floor in faint", B18, "mc=10 fi=150", "1+", None, "low", ""),
    ("2018 any 10.0 % mixed", B18, "mc=50 fi=50", "0", "ultralow", "ultralow",
     "OUTSIDE_DEFINITION"),
    ("2018 ten cells, one intense", B18, "ic=1 of=10", "2+", None, "equivocal", "FOCAL_3P"),
    ("2018 nine cells, one intense", B18, "ic=1 of=9", "3+", None, "positive", "FEW_CELLS"),
    ("2018 one cell", B18, "ic=1 of=1", "3+", None, "positive", "FEW_CELLS"),
    ("2018 a million, one above 10 %", B18, "ic=100001 of=1000000", "3+", None, "positive", ""),
    ("2018 a million, exactly 10 %", B18, "ic=100000 of=1000000", "2+", None, "equivocal",
     "FOCAL_3P"),
    ("2018 a third of three", B18, "fi=1 of=3", "1+", None, "low", "FEW_CELLS"),
    # 2023 scores as 2018
    ("2023 3+", "asco_cap_2023", "ic=101", "3+", None, "positive", ""),
    ("2023 focal", "asco_cap_2023", "ic=100", "2+", None, "equivocal", "FOCAL_3P"),
    ("2023 1+", "asco_cap_2023", "fi=101", "1+", None, "low", ""),
    ("2023 ultralow", "asco_cap_2023", "fi=100", "0", "ultralow", "ultralow", ""),
    ("2023 null", "asco_cap_2023", "fi=10", "0", "null", "null", ""),
    # 2013
    ("2013 3+ 10.1 %", B13, "ic=101", "3+", None, "positive", ""),
    ("2013 3+ 20 %", B13, "ic=200", "3+", None, "positive", ""),
    ("2013 10.0 %", B13, "ic=100", "2+", None, "equivocal", "FOCAL_3P"),
    ("2013 focal above floor", B13, "ic=11", "2+", None, "equivocal", "FOCAL_3P"),
    ("2013 intense at floor", B13, "ic=10", "0", None, "negative", ""),
    ("2013 weak complete 10.0 % is not 2+", B13, "fc=100", "0", None, "negative", ""),
    ("2013 weak complete 10.1 %", B13, "fc=101", "2+", None, "equivocal", "FAINT_COMPLETE"),
    ("2013 moderate complete 10.1 %", B13, "mc=101", "2+", None, "equivocal", ""),
    ("2013 moderate complete 10.0 %", B13, "mc=100", "0", None, "negative", ""),
    ("2013 incomplete moderate 40 %", B13, "mi=400", "2+", None, "equivocal", "BASOLATERAL"),
    ("2013 incomplete moderate 10.0 %", B13, "mi=100", "0", None, "negative", ""),
    ("2013 intense incomplete 40 %", B13, "ii=400", "2+", None, "equivocal", "BASOLATERAL"),
    ("2013 faint incomplete 10.1 %", B13, "fi=101", "1+", None, "negative", ""),
    ("2013 faint incomplete 10.0 %", B13, "fi=100", "0", None, "negative", ""),
    ("2013 weak incomplete 5 %", B13, "fi=50", "0", None, "negative", ""),
    ("2013 sum of weak and incomplete", B13, "fc=51 mi=50", "2+", None, "equivocal", ""),
    ("2013 unstained", B13, "", "0", None, "negative", ""),
    # 2007
    ("2007 30.0 % exactly", B07, "ic=300", "2+", None, "equivocal", ""),
    ("2007 30.1 %", B07, "ic=301", "3+", None, "positive", ""),
    ("2007 intense 20 %", B07, "ic=200", "2+", None, "equivocal", ""),
    ("2007 intense 5 %", B07, "ic=50", "2+", None, "equivocal", "FOCAL_3P"),
    ("2007 intense at floor", B07, "ic=10", "0", None, "negative", ""),
    ("2007 weak complete 10.0 %", B07, "fc=100", "2+", None, "equivocal", ""),
    ("2007 weak complete 9.9 %", B07, "fc=99", "1+", None, "negative", ""),
    ("2007 moderate complete 10.0 %", B07, "mc=100", "2+", None, "equivocal", ""),
    ("2007 moderate complete 9.9 %", B07, "mc=99", "1+", None, "negative", ""),
    ("2007 complete of all strengths", B07, "fc=50 mc=40 ic=10", "2+", None, "equivocal", ""),
    ("2007 weak incomplete 5 %", B07, "fi=50", "1+", None, "negative", ""),
    ("2007 weak incomplete at floor", B07, "fi=10", "0", None, "negative", ""),
    ("2007 weak incomplete 100 %", B07, "fi=1000", "1+", None, "negative", ""),
    ("2007 incomplete moderate 40 %", B07, "mi=400", "1+", None, "negative",
     "OUTSIDE_DEFINITION"),
    ("2007 intense incomplete 40 %", B07, "ii=400", "1+", None, "negative",
     "OUTSIDE_DEFINITION"),
    ("2007 unstained", B07, "", "0", None, "negative", ""),
    # gastric resection
    ("resection intense complete 10.0 %", GR, "ic=100", "3+", None, "positive", ""),
    ("resection intense lateral 10.0 %", GR, "ii=100", "3+", None, "positive", ""),
    ("resection intense mixed 10.0 %", GR, "ii=50 ic=50", "3+", None, "positive", ""),
    ("resection intense 9.9 %", GR, "ic=99", "0", None, "negative", "FOCAL_3P"),
    ("resection intense 9.9 %, faint", GR, "ic=99 fi=1", "1+", None, "negative", "FOCAL_3P"),
    ("resection intense and moderate", GR, "ic=99 mi=1", "2+", None, "equivocal", "FOCAL_3P"),
    ("resection moderate lateral 10.0 %", GR, "mi=100", "2+", None, "equivocal", ""),
    ("resection moderate complete 10.0 %", GR, "mc=100", "2+", None, "equivocal", ""),
    ("resection moderate 9.9 %", GR, "mc=99", "0", None, "negative", ""),
    ("resection faint 10.0 %", GR, "fi=100", "1+", None, "negative", ""),
    ("resection faint complete 10.0 %", GR, "fc=100", "1+", None, "negative", ""),
    ("resection faint 9.9 %", GR, "fi=99", "0", None, "negative", ""),
    ("resection unstained", GR, "", "0", None, "negative", ""),
    # HERACLES
    ("heracles intense 50.0 %", HE, "ic=500", "3+", None, "positive", ""),
    ("heracles intense lateral 50.0 %", HE, "ii=500", "3+", None, "positive", ""),
    ("heracles intense 49.9 %", HE, "ic=499", "3+", None, "equivocal", ""),
    ("heracles intense 10.1 %", HE, "ic=101", "3+", None, "equivocal", ""),
    ("heracles intense 10.0 %", HE, "ic=100", "1+", None, "negative", "FOCAL_3P"),
    ("heracles intense 10.0 % in moderate", HE, "ic=100 mc=400", "2+", None, "equivocal",
     "FOCAL_3P"),
    ("heracles moderate 50.0 %", HE, "mc=250 mi=250", "2+", None, "equivocal", ""),
    ("heracles moderate 49.9 %", HE, "mc=499", "1+", None, "negative", ""),
    ("heracles faint 100 %", HE, "fi=1000", "1+", None, "negative", ""),
    ("heracles faint above floor", HE, "fi=11", "1+", None, "negative", ""),
    ("heracles faint at floor", HE, "fi=10", "0", None, "negative", ""),
    ("heracles unstained", HE, "", "0", None, "negative", ""),
    # endometrial serous
    ("endometrial intense 30.1 %", EN, "ic=301", "3+", None, "positive", ""),
    ("endometrial intense lateral 30.1 %", EN, "ii=301", "3+", None, "positive", ""),
    ("endometrial intense 30.0 %", EN, "ic=300", "2+", None, "equivocal", "FOCAL_3P"),
    ("endometrial intense above floor", EN, "ic=11", "2+", None, "equivocal", "FOCAL_3P"),
    ("endometrial intense at floor", EN, "ic=10", "0", None, "negative", ""),
    ("endometrial moderate 10.0 %", EN, "mc=100", "2+", None, "equivocal", ""),
    ("endometrial moderate lateral 10.0 %", EN, "mi=100", "2+", None, "equivocal", ""),
    ("endometrial moderate 9.9 %", EN, "mc=99", "1+", None, "negative", ""),
    ("endometrial faint complete 100 %", EN, "fc=1000", "1+", None, "negative", ""),
    ("endometrial faint above floor", EN, "fi=11", "1+", None, "negative", ""),
    ("endometrial faint at floor", EN, "fi=10", "0", None, "negative", ""),
    ("endometrial unstained", EN, "", "0", None, "negative", ""),
]  # fmt: skip


def counts_of(text: str) -> dict[str, int]:
    given = {k: int(v) for k, v in (word.split("=") for word in text.split())}
    of = given.pop("of", 1000)
    counts = {SHORT[k]: v for k, v in given.items()}
    counts["none"] = counts.get("none", 0) + of - sum(counts.values())
    assert counts["none"] >= 0
    return counts


@pytest.mark.parametrize(
    ("guideline", "text", "ihc", "substate", "category", "flags"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_named_case(guideline, text, ihc, substate, category, flags):
    found = guidelines.score(counts_of(text), guideline)
    assert (found.ihc, found.substate, found.category) == (ihc, substate, category)
    assert set(flags.split()) <= set(found.flags)
    if not flags:
        assert found.flags == ()


# (name, guideline, mix, ISH, category)
ISH_CASES = [
    ("2+ positive", B18, "mc=400", "positive", "positive"),
    ("2+ negative is low", B18, "mc=400", "negative", "low"),
    ("2+ open", B18, "mc=400", "recount_due", "equivocal"),
    ("2+ without ISH is never low", B18, "mc=400", None, "equivocal"),
    ("focal negative is low", B18, "ic=50", "negative", "low"),
    ("1+ negative", B18, "fi=400", "negative", "low"),
    ("1+ positive", B18, "fi=400", "positive", "positive"),
    ("ultralow negative", B18, "fi=50", "negative", "ultralow"),
    ("null negative", B18, "", "negative", "null"),
    ("null positive", B18, "", "positive", "positive"),
    ("3+ negative stays positive", B18, "ic=400", "negative", "positive"),
    ("3+ positive", B18, "ic=400", "positive", "positive"),
    ("2013 2+ negative", B13, "mc=400", "negative", "negative"),
    ("2013 2+ positive", B13, "mc=400", "positive", "positive"),
    ("2013 1+ positive", B13, "fi=400", "positive", "positive"),
    ("2007 2+ negative", B07, "mc=400", "negative", "negative"),
    ("2007 2+ equivocal ISH", B07, "mc=400", "equivocal", "equivocal"),
    ("gastric 2+ positive", GR, "mc=400", "positive", "positive"),
    ("gastric 2+ negative", GR, "mc=400", "negative", "negative"),
    ("gastric 1+ positive ISH stays negative", GR, "fi=400", "positive", "negative"),
    ("heracles 3+ below half, negative", HE, "ic=200", "negative", "negative"),
    ("heracles 3+ below half, positive", HE, "ic=200", "positive", "positive"),
    ("heracles 2+ positive", HE, "mc=600", "positive", "positive"),
    ("heracles 1+ positive ISH stays negative", HE, "mc=100", "positive", "negative"),
    ("endometrial 2+ positive", EN, "mc=400", "positive", "positive"),
    ("endometrial 1+ positive by ISH alone", EN, "fi=400", "positive", "positive"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("guideline", "text", "ish", "category"),
    [case[1:] for case in ISH_CASES],
    ids=[case[0] for case in ISH_CASES],
)
def test_category_with_ish(guideline, text, ish, category):
    assert guidelines.score(counts_of(text), guideline, ish_status=ish).category == category


def test_the_table_is_as_long_as_promised():
    assert len(CASES) >= 110
    assert len(CASES) + len(ISH_CASES) >= 135
    assert len({case[0] for case in CASES}) == len(CASES)
