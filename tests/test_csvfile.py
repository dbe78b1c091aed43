"""Tables that people hand in: one content, whatever program wrote it."""

import codecs
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2path.core import numerals
from her2path.core.csvfile import read_sheet, same_name, tidy
from her2path.core.errors import ManifestError

KNOWN = ("slide", "case_id", "mpp")
ROWS = [("Slide", "Case ID", "note"), ("a.svs", "Müller", "x, y"), ("b.svs", "Zoë", "")]
ENCODINGS = {
    "utf-8": "utf-8", "utf-8 with mark": "utf-8-sig", "utf-16": "utf-16",
    "utf-16-le": "utf-16-le", "utf-16-be": "utf-16-be", "utf-32": "utf-32", "cp1252": "cp1252",
}  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("separator", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_one_content_however_it_is_written(tmp_path, encoding, separator, end) -> None:
    text = end.join(separator.join(f'"{f}"' if "," in f else f for f in row) for row in ROWS)
    (tmp_path / "t.csv").write_bytes((text + end).encode(encoding))
    sheet = read_sheet(tmp_path / "t.csv", KNOWN, 1 << 20)
    assert sheet.columns == ("slide", "case_id", "note")
    assert sheet.rows == ((2, ROWS[1]), (3, ROWS[2]))
    assert sheet.separator == separator


@pytest.mark.parametrize("text", [
    "sep=;\nslide;note (a, b, c, d)\na;1\n", "SLIDE;note (a, b, c, d);;\n\na;1;;\n;;;\n",
    codecs.BOM_UTF8.decode("utf-8") + " slide ;note (a, b, c, d)\n\u00a0a\u200b;1\n\x1a",
])  # fmt: skip
def test_what_spreadsheets_add_is_left_out(tmp_path, text: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode())
    sheet = read_sheet(tmp_path / "t.csv", KNOWN, 1 << 20)
    assert [row for _, row in sheet.rows] == [("a", "1")]
    assert sheet.columns[0] == "slide"


@pytest.mark.parametrize(("data", "words"), [
    (b"", "is empty"), (b"slide\nPK\x03\x04\x00\x00", "not a text table"),
    (b"slide\na\0\n", "not a text table"), (b"slide,Slide\na,b\n", "'slide' stands twice"),
    (b"case_id,CaseID\na,b\n", "'case_id' stands twice"), (b'slide\n"a\n', "not valid CSV"),
    (b"slide,mpp\na\nb,1\n", r"row 1 \(line 2\) has 1 fields"), (b"slide\n\x81\n", "not a text"),
])  # fmt: skip
def test_what_is_no_table_is_refused(tmp_path, data: bytes, words: str) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(ManifestError, match=words):
        read_sheet(tmp_path / "t.csv", KNOWN, 1 << 20)


def test_names_that_look_alike() -> None:
    assert tidy(" Zoe\u0308\u200b\u00a0") == "Zo\u00eb"
    assert tidy("ﬁ") != tidy("fi")
    assert same_name("ﬁ") == same_name(" FI")


@pytest.mark.parametrize(("text", "mark", "value"), [
    ("1.000", ",", 1000), ("1,000", ".", 1000), ("1.000.000", None, 10**6), ("1 000", None, 1000),
    ("1\u202f000", None, 1000), ("1'000", None, 1000), ("3.0", None, 3), ("3,00", None, 3),
    ("1.234,0", None, 1234), ("\u22127", None, -7), ("12345", None, 12345),
])  # fmt: skip
def test_counts(text: str, mark: str | None, value: int) -> None:
    assert numerals.to_whole(text, mark) == value


@pytest.mark.parametrize(("text", "mark"), [("1.000", None), ("1,000", None), ("1.000", "."),
                                            ("12,000", ",")])  # fmt: skip
def test_a_thousand_is_not_one(text: str, mark: str | None) -> None:
    with pytest.raises(numerals.Ambiguous, match="can be read as"):
        numerals.to_whole(text, mark)


def test_numbers_with_decimals() -> None:
    assert numerals.to_number("0,25") == Fraction(1, 4)
    assert numerals.to_number("1.234", ".") == Fraction(1234, 1000)
    assert numerals.to_number("1.234", ",") == 1234
    assert numerals.to_number("7.500", most=999) == Fraction(15, 2)
    assert numerals.to_number("1.5e2") == 150
    with pytest.raises(numerals.Ambiguous):
        numerals.to_number("1.234")
    for text in ("", "x", "1..2", "nan", "inf", "1,23,45", "1.000e3,", "0x10"):
        with pytest.raises(ValueError, match="not a number"):
            numerals.to_number(text)


def test_the_mark_of_a_table() -> None:
    assert numerals.decimal_mark(["1.000", "7,5"]) == ","
    assert numerals.decimal_mark(["1,000", "0.500"]) == "."
    assert numerals.decimal_mark(["1.000", "12"]) is None
    assert numerals.decimal_mark(["7,5", "7.5"]) is None


@given(st.integers(0, 10**12), st.integers(0, 10**4 - 1), st.sampled_from([".", ","]))
def test_what_is_written_is_read(whole: int, part: int, mark: str) -> None:
    other = "," if mark == "." else "."
    grouped = f"{whole:,}".replace(",", other)
    assert numerals.to_number(f"{grouped}{mark}{part:04d}") == whole + Fraction(part, 10**4)
