"""Readers' journals: nothing that was said is lost, however the program ends."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from her2path.core.errors import UsageError
from her2path.io.reads import read_reads
from her2path.io.store import BatchStore
from her2path.runs.cohort.collecting import _Collection, _Found
from her2path.runs.cohort.readlog import ReadLog, all_logs, write_reads
from her2path.runs.cohort.signed import in_words, signed_reads
from her2path.runs.cohort.tables import read_rows
from her2path.runs.cohort.worklist import Item, shuffled

ITEMS = [Item(f"c{i}", f"s{i}", Path(f"/x/s{i}")) for i in range(12)]


def begun(out: Path, reader: str = "AB", **more: Any) -> ReadLog:
    log = ReadLog(out, reader)
    log.begin(ITEMS, **more)
    return log


def give(log: ReadLog, number: int, score: str, **more: Any) -> None:
    log.give(ITEMS[number].key, {"score": score, "seconds": 12.34, **more})


# -- the order -------------------------------------------------------------------------------------


def test_the_order_is_each_readers_own_and_stays(tmp_path: Path) -> None:
    first = [i.key for i in ReadLog(tmp_path, "AB").begin(ITEMS)]
    other = [i.key for i in ReadLog(tmp_path, "CD").begin(ITEMS)]
    assert sorted(first) == sorted(i.key for i in ITEMS)
    assert first != [i.key for i in ITEMS]
    assert first != other
    assert [i.key for i in ReadLog(tmp_path, "AB").begin(list(reversed(ITEMS)))] == first


def test_the_given_order_is_the_manifests(tmp_path: Path) -> None:
    assert ReadLog(tmp_path, "AB").begin(ITEMS, "given") == ITEMS
    with pytest.raises(UsageError, match="begun in the given order"):
        ReadLog(tmp_path, "AB").begin(ITEMS, "random")
    with pytest.raises(UsageError, match="Valid: random, given"):
        ReadLog(tmp_path, "CD").begin(ITEMS, "by score")


def test_slides_that_come_later_are_read_last(tmp_path: Path) -> None:
    first = ReadLog(tmp_path, "AB").begin(ITEMS[:5])
    then = ReadLog(tmp_path, "AB").begin(ITEMS)
    assert then[:5] == first
    assert len(then) == 12


def test_the_order_knows_nothing_but_names_and_seed() -> None:
    assert shuffled(ITEMS, "a") == shuffled(list(reversed(ITEMS)), "a")
    assert shuffled(ITEMS, "a") != shuffled(ITEMS, "b")


# -- what is said ----------------------------------------------------------------------------------


def test_a_read_goes_through_its_states_and_is_logged(tmp_path: Path) -> None:
    log = begun(tmp_path)
    give(log, 0, "1+", percent={"none": 60, "faint_incomplete": 40}, comment="edge")
    assert log.reading(ITEMS[0].key).state == "given"
    (row,) = read_rows(tmp_path / "READS.csv")
    assert (row["score"], row["score_before"], row["score_after"]) == ("1+", "1+", "")
    assert (row["seconds"], row["percent_none"], row["comment"]) == ("12.3", "60.0", "edge")
    log.decide(ITEMS[0].key, "2+", "seen again")
    (row,) = read_rows(tmp_path / "READS.csv")
    # agreement is that of the read that did not know the program's
    assert (row["score"], row["score_before"], row["score_after"]) == ("1+", "1+", "2+")
    log.sign(ITEMS[0].key)
    assert in_words(signed_reads(tmp_path)[ITEMS[0].key]) == "AB 2+"
    for late in (lambda: log.decide(ITEMS[0].key, "3+", ""), lambda: log.sign(ITEMS[0].key)):
        with pytest.raises(UsageError, match="signed off"):
            late()
    with pytest.raises(UsageError, match="read before"):
        give(log, 0, "3+")
    assert [r.score for r in read_reads(tmp_path / "READS.csv")] == [1]


def test_before_a_score_nothing_can_be_decided(tmp_path: Path) -> None:
    log = begun(tmp_path)
    for early in (lambda: log.decide(ITEMS[0].key, "3+", ""), lambda: log.sign(ITEMS[0].key)):
        with pytest.raises(UsageError, match="not read yet"):
            early()
    assert not (tmp_path / "READS.csv").exists()


@pytest.mark.parametrize(("said", "why"), [
    ({"score": None}, "no score"), ({"score": "4+"}, "no score"), ({}, "no score"),
    ({"score": "2+", "percent": {"none": 120}}, "0 to 100"),
    ({"score": "2+", "percent": {"none": 70, "faint_complete": 60}}, "add up to 130"),
    ({"score": "2+", "percent": {"purple": 1}}, "no pattern"),
    ({"score": "2+", "percent": {"none": "many"}}, "0 to 100"),
])  # fmt: skip
def test_what_cannot_be_is_refused(tmp_path: Path, said: dict, why: str) -> None:
    log = begun(tmp_path)
    with pytest.raises(UsageError, match=why):
        log.give(ITEMS[0].key, said)
    assert log.reading(ITEMS[0].key).state == "unread"


@pytest.mark.parametrize(("name", "why"), [
    ("", "needs a name"), ("  ", "needs a name"), ("Her2Path", "something else"), ("ISH", "else"),
    ("ab", "known as 'AB'"),
])  # fmt: skip
def test_names_that_cannot_be(tmp_path: Path, name: str, why: str) -> None:
    begun(tmp_path)
    with pytest.raises(UsageError, match=why):
        ReadLog(tmp_path, name)


def test_a_slide_that_cannot_be_read_is_missing_and_not_0(tmp_path: Path) -> None:
    log = begun(tmp_path)
    give(log, 0, "", comment="=cmd()")
    give(log, 1, "0/ultralow")
    reads = read_reads(tmp_path / "READS.csv")
    assert [(r.score, r.substate) for r in reads] in (
        [(None, None), (0, "ultralow")], [(0, "ultralow"), (None, None)]
    )  # fmt: skip
    assert ",=cmd" not in (tmp_path / "READS.csv").read_text()


def test_another_result_never_replaces_what_a_reader_said(tmp_path: Path) -> None:
    made, batch = tmp_path / "elsewhere" / "S", BatchStore(tmp_path / "OUT")
    here = batch.slide("S").out
    for folder, text in ((made, "theirs"), (here, "ours")):
        (folder / "reads").mkdir(parents=True)
        for name in ("result.json", "corrections.geojson", "READS.csv", "reads/ab.jsonl"):
            (folder / name).write_text(text)
    collection = object.__new__(_Collection)
    collection.store = batch
    assert collection._bring(_Found(made, "S", {}), overwrite=True)
    assert (here / "result.json").read_text() == "theirs"
    for name in ("corrections.geojson", "READS.csv", "reads/ab.jsonl"):
        assert (here / name).read_text() == "ours"


# -- killed ----------------------------------------------------------------------------------------


def test_a_line_that_was_left_half_written_costs_no_other(tmp_path: Path) -> None:
    log = begun(tmp_path)
    give(log, 0, "2+")
    path = log.journal.path
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event": "score", "case_id": "c1", "slide')
    again = ReadLog(tmp_path, "AB")
    again.begin(ITEMS)
    assert again.reading(ITEMS[0].key).before == "2+"
    assert again.reading(ITEMS[1].key).state == "unread"
    give(again, 1, "3+")
    assert {r.reading(ITEMS[1].key).before for r in (again, begun(tmp_path))} == {"3+"}
    # READS.csv can be made again from the journals alone
    (tmp_path / "READS.csv").unlink()
    write_reads(tmp_path)
    assert len(read_reads(tmp_path / "READS.csv")) == 2


def test_what_is_typed_and_the_time_are_kept(tmp_path: Path) -> None:
    begun(tmp_path).draft(ITEMS[3].key, {"score": "2+", "comment": "hm", "seconds": 40.0})
    read = begun(tmp_path).reading(ITEMS[3].key)
    assert (read.state, read.draft["score"], read.draft["comment"]) == ("unread", "2+", "hm")
    assert read.seconds == 40.0
    assert not (tmp_path / "READS.csv").exists()


def _reads_many(out: Path, reader: str) -> None:
    log = begun(out, reader)
    for number in range(len(ITEMS)):
        give(log, number, "1+")
        log.decide(ITEMS[number].key, "2+", "")


def test_readers_at_once_lose_nothing(tmp_path: Path) -> None:
    names = ["AB", "CD", "EF", "GH"]
    context = multiprocessing.get_context("spawn")
    work = [context.Process(target=_reads_many, args=(tmp_path, n)) for n in names]
    for process in work:
        process.start()
    for process in work:
        process.join(60)
        assert process.exitcode == 0
    reads = read_reads(tmp_path / "READS.csv")
    assert len(reads) == len(names) * len(ITEMS)
    assert {len(read) for _, _, read in all_logs(tmp_path)} == {len(ITEMS)}
    assert all(r["score_after"] == "2+" for r in read_rows(tmp_path / "READS.csv"))


def test_one_reader_in_two_windows_gives_one_score(tmp_path: Path) -> None:
    one, two = begun(tmp_path), begun(tmp_path)
    give(one, 0, "1+")
    with pytest.raises(UsageError, match="read before"):
        give(two, 0, "3+")
    assert two.reading(ITEMS[0].key).before == "1+"


def test_a_second_round_is_another_read(tmp_path: Path) -> None:
    log = begun(tmp_path)
    with pytest.raises(UsageError, match="12 slides left"):
        ReadLog(tmp_path, "AB").begin(ITEMS, again=True)
    for number in range(12):
        give(log, number, "1+")
    again = ReadLog(tmp_path, "AB")
    second = again.begin(ITEMS, again=True)
    assert [i.key for i in second] != list(log.items)
    assert again.reading(ITEMS[0].key).state == "unread"
    give(again, 0, "2+")
    reads = {(r.case, r.read_no): r.score for r in read_reads(tmp_path / "READS.csv")}
    assert (reads["c0", 1], reads["c0", 2]) == (1, 2)
    events = [json.loads(line) for line in log.journal.path.read_text().splitlines()]
    assert [e["round"] for e in events if e["event"] == "begin"] == [1, 2]
