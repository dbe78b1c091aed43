"""Time points: dates in any spelling, numbers and words come in their order, or are refused."""

import itertools

import pytest

from her2path.core.errors import ManifestError
from her2path.core.timepoints import by_name_alone, time_groups

ORDERED = [
    ("2022-12-15", "2023-02-03"),
    ("2023-2-3", "2023-10-1"),
    ("2022/12/15", "2023.02.03"),
    ("20221215", "20230203"),
    ("15.12.2022", "03.02.2023"),
    ("15.12.22", "3.2.23"),
    ("15. 12. 2022", "3. 2. 2023"),
    ("12/31/2022", "1/13/2023"),
    ("31/12/2022", "13/1/2023"),
    ("15 Dec 2022", "3 February 2023"),
    ("Dec 15, 2022", "Feb 3rd, 2023"),
    ("15-DEC-22", "03FEB2023"),
    ("15. Dezember 2022", "3. März 2023"),
    ("15 de diciembre de 2022", "3 de febrero de 2023"),
    ("2022-12-15 00:00:00", "03.02.2023"),
    ("2023-02-03 09:30", "2023-02-03T14:00:00Z"),
    ("2022-12-15T10:30:00+01:00", "2022-12-15T10:00:00Z"),
    ("12/2022", "02/2023"),
    ("2022-12", "2023-02-03"),
    ("2022", "2023-02-03"),
    ("Dec 2022", "Jan 2023"),
    ("Q4 2022", "Q1 2023"),
    ("KW 50 2022", "2023-W05"),
    ("2", "10"),
    ("-1", "0"),
    ("1,25", "1,5"),
    ("C9", "C10"),
    ("cycle 2", "cycle 10"),
    ("cycle-2", "Cycle 10"),
    ("C1D15", "C2D1"),
    ("week 6", "12 weeks"),
    ("M6", "month 12"),
    ("day -7", "day 0"),
    ("2nd biopsy", "10th biopsy"),
    ("baseline", "cycle 2"),
    ("biopsy", "resection"),
]


@pytest.mark.parametrize(("first", "second"), ORDERED)
def test_the_earlier_comes_first(first: str, second: str) -> None:
    for given in itertools.permutations((first, second)):
        assert time_groups(given) == [[first], [second]]


@pytest.mark.parametrize("same", [
    ("2023-02-03", "3.2.2023", "3 Feb 2023"), ("1", "1.0"), ("Baseline", "baseline "),
    ("C2", "cycle 02"), ("Z\u00fcrich 1", "Zu\u0308rich 1"),
])  # fmt: skip
def test_spellings_of_one_time_stand_together(same: tuple[str, ...]) -> None:
    assert time_groups(same) == [list(same)]


@pytest.mark.parametrize(("given", "words"), [
    (("03/02/2023", "15/12/2022"), "'03/02/2023' can be read as 2023-02-03 or 2023-03-02"),
    (("03-02-2023", "2022-12-15"), "can be read as"),
    (("22-12-15", "2022-01-01"), "2015-12-22 or 2022-12-15"),
    (("31.02.2023", "01.01.2023"), "no day of the calendar"),
    (("12.15.2022", "2022-01-01"), "no day of the calendar"),
    (("2023-15-02", "2022-01-01"), "no day of the calendar"),
    (("Dec 15", "Jan 3"), "cannot be read"),
    (("December", "January"), "without its year"),
    (("15.12.", "03.02."), "without its year"),
    (("12/15", "01/03"), "without its year"),
    (("Dec-22", "Jan-23"), "cannot be read"),
    (("biopsy 15.12.2022", "biopsy 03.02.2023"), "holds a date"),
    (("2023", "2023-02-03"), "one holds the other"),
    (("2023-02-03 10:00", "2023-02-03"), "one holds the other"),
    (("12.2022", "02.2023"), "numbers or months"),
    (("2023-02-03", "baseline"), "different kinds"),
    (("2023-02-03", "5"), "different kinds"),
    (("2", "cycle 3"), "different kinds"),
    (("1.000", "2"), "1 or as 1000"),
    (("week 12", "month 6"), "different units"),
    (("T-1", "T0"), "minus"),
    (("visit 1.9", "visit 1.10"), "two ways"),
])  # fmt: skip
def test_what_cannot_be_ordered_is_refused(given: tuple[str, str], words: str) -> None:
    for order in itertools.permutations(given):
        with pytest.raises(ManifestError, match=words):
            time_groups(order)


def test_order_by_letters_alone_is_known() -> None:
    assert by_name_alone(["pre", "post"])
    assert not by_name_alone(["pre", "pre "])
    assert not by_name_alone(["baseline", "cycle 2", "cycle 3"])
    assert not by_name_alone(["2020", "2021"])
