"""Blind reading: nothing of the machine is given before a reader has read, and nothing is lost."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fake_batch import copied, make_batch
from viewing import call, viewing

from her2path.core.errors import UsageError
from her2path.io.store import BatchStore
from her2path.outputs.report.index import index_values
from her2path.outputs.viewer import make_server
from her2path.outputs.viewer.desk import Viewer
from her2path.runs.cohort.tables import read_rows

#: everything that a program could say of a slide, and what it is called in JSON
MACHINE = ("/slide/{n}/tile/overlay/0/0/0?layers=cells", "/slide/{n}/tile/hematoxylin/0/0/0",
           "/slide/{n}/tile/dab/0/0/0", "/slide/{n}/at?x=500&y=500", "/slide/{n}/borderline",
           "/slide/{n}/legend?measure=completeness", "/slide/{n}/corrections",
           "/slide/{n}/areas.geojson", "/slide/{n}/proposals")  # fmt: skip
WORDS = re.compile(r"HER2-|equivocal|H-score|robability|evaluable|warning|IHC \d|data-sort|ISH")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_batch(tmp_path_factory.mktemp("reading") / "OUT")


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return copied(made, tmp_path / "OUT")


def post(viewer: Viewer, number: int, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    status, _, answer = call(viewer, f"/slide/{number}/read", body)
    return status, json.loads(answer)


def give(viewer: Viewer, number: int, score: str, **more: Any) -> dict[str, Any]:
    body = {"action": "give", "score": score, "seconds": 5, **more}
    status, answer = post(viewer, number, body)
    assert status == 200, answer
    return answer


# -- hidden ----------------------------------------------------------------------------------------


def test_nothing_of_the_machine_is_given_before_the_score(out: Path) -> None:
    with viewing(out, reader="AB") as viewer:
        for number in range(5):
            for path in MACHINE:
                status, _, body = call(viewer, path.format(n=number))
                assert status == 403, path
                assert json.loads(body) == {"error": "Give your score first"}
            page = call(viewer, f"/slide/{number}")[2].decode()
            assert not WORDS.search(page.replace("data-facts", "")), number
            assert call(viewer, f"/slide/{number}/tile/slide/0/0/0")[0] == 200
            assert call(viewer, f"/slide/{number}/thumbnail")[0] == 200
        assert not WORDS.search(call(viewer, "/")[2].decode())
        # an address without a number is the first slide's, and there is no other way round
        for path in MACHINE:
            assert call(viewer, path.replace("/slide/{n}", ""))[0] == 403, path
            assert call(viewer, path.format(n=77))[0] == 403, path


def test_the_score_opens_its_own_slide_and_no_other(out: Path) -> None:
    with viewing(out, reader="AB") as viewer:
        give(viewer, 1, "2+")
        # the not evaluable one has no cells to show, but opens as well
        for path in MACHINE:
            assert call(viewer, path.format(n=1))[0] in (200, 404), path
            assert call(viewer, path.format(n=2))[0] == 403, path
        assert "The program says" in call(viewer, "/slide/1")[2].decode()
        assert not WORDS.search(call(viewer, "/")[2].decode())


def test_the_order_tells_nothing(made: Path, out: Path) -> None:
    with viewing(out, reader="AB") as viewer:
        mine = [i.slide_id for i in viewer.items]
    with viewing(out, reader="AB") as viewer:
        assert [i.slide_id for i in viewer.items] == mine
    with viewing(out, reader="CD", order="given") as viewer:
        assert [i.slide_id for i in viewer.items] == ["S1", "S2", "S3", "S4", "S5"]


def test_nothing_is_corrected_in_a_blind_session(out: Path) -> None:
    with viewing(out, reader="AB") as viewer:
        give(viewer, 0, "2+")
        body = {"action": "region", "ring": [[0, 0], [9, 0], [9, 9]], "reader": "AB"}
        for path in ("corrections", "rescore", "import"):
            status, _, answer = call(viewer, f"/slide/0/{path}", body)
            assert status == 403
            assert "--read" in json.loads(answer)["error"]


# -- what is said ----------------------------------------------------------------------------------


def test_kept_changed_signed_and_locked(out: Path) -> None:
    with viewing(out, reader="AB", order="given") as viewer:
        assert give(viewer, 2, "1+", comment="pale", percent={"none": 70})["state"] == "given"
        status, answer = post(viewer, 2, {"action": "give", "score": "3+"})
        assert (status, "read before" in answer["error"]) == (400, True)
        post(viewer, 2, {"action": "decide", "score": "2+", "comment": "pale"})
        assert post(viewer, 2, {"action": "sign"})[1]["state"] == "signed"
        for late in ({"action": "decide", "score": "0"}, {"action": "sign"}):
            assert post(viewer, 2, late)[0] == 400
        assert post(viewer, 2, {"action": "unlock"})[0] == 400
        (row,) = read_rows(out / "READS.csv")
        assert row["case_id"] == "C3"
        assert (row["score_before"], row["score_after"], row["reader"]) == ("1+", "2+", "AB")
        assert row["seconds"] == "5.0"
    # beside the program's, never over it
    cases = {r["case_id"]: r for r in read_rows(out / "cases.csv")}
    assert (cases["C3"]["ihc"], cases["C3"]["signed_off"]) == ("2+", "AB 2+")
    assert cases["C1"]["signed_off"] == ""
    slides = {r["slide_id"]: r for r in read_rows(out / "slides.csv")}
    assert slides["S3"]["signed_off"] == "AB 2+"
    rows = {r["folder"]: r for r in index_values(BatchStore(out))["slides"]}
    assert (rows["S3"]["ihc"], rows["S3"]["reader"]) == ("2+", "AB 2+")
    assert "AB 2+" in (out / "index.html").read_text()


def test_after_the_end_of_the_program_all_is_there(out: Path) -> None:
    with viewing(out, reader="AB") as viewer:
        give(viewer, 0, "3+")
        post(viewer, 1, {"action": "draft", "score": "1+", "comment": "half", "seconds": 30})
        first = [i.key for i in viewer.items]
    with viewing(out, reader="AB") as viewer:
        assert [i.key for i in viewer.items] == first
        read = json.loads(call(viewer, "/slide/0/read")[2])
        assert (read["state"], read["before"]) == ("given", "3+")
        draft = json.loads(call(viewer, "/slide/1/read")[2])
        assert (draft["state"], draft["seconds"]) == ("unread", 30)
        assert draft["draft"]["comment"] == "half"
        assert call(viewer, "/slide/1/corrections")[0] == 403
        text = call(viewer, "/")[2].decode()
        assert "1 of 5 read, 1 to keep or change" in text
        assert 'data-state="begun"' in text


def test_two_readers_at_once_see_nothing_of_each_other(out: Path) -> None:
    with viewing(out, reader="Anna <1>") as anna, viewing(out, reader="Zoe") as zoe:
        place = {i.slide_id: n for n, i in enumerate(zoe.items)}
        for number, item in enumerate(anna.items):
            give(anna, number, "2+", comment="annas words")
            post(anna, number, {"action": "sign"})
            mine = place[item.slide_id]
            assert call(zoe, f"/slide/{mine}/corrections")[0] == 403
            paths = ("/", f"/slide/{mine}", f"/slide/{mine}/read")
            pages = [call(zoe, p)[2].decode() for p in paths]
            assert not any("Anna" in p or "annas" in p for p in pages)
            give(zoe, mine, "1+")
            read = call(zoe, f"/slide/{mine}/read")[2].decode()
            assert "annas" not in read
    rows = read_rows(out / "READS.csv")
    assert len(rows) == 10
    assert {(r["reader"], r["score"]) for r in rows} == {("Anna <1>", "2+"), ("Zoe", "1+")}


def test_the_reads_feed_agree(out: Path, tmp_path: Path) -> None:
    from her2path import api
    from her2path.scoring.agreement import AgreeOptions

    said = {"AB": ("0", "1+", "2+", "3+", ""), "CD": ("0", "0", "2+", "3+", "1+")}
    for reader, scores in said.items():
        with viewing(out, reader=reader, order="given") as viewer:
            for number, score in enumerate(scores):
                give(viewer, number, score)
    tree = api.agree(out / "READS.csv", out, tmp_path / "A", options=AgreeOptions(100))
    pairs = {(p["a"], p["b"]): p for p in tree["pairs"]}
    assert pairs["AB", "CD"]["n"] == 4
    assert pairs["AB", "CD"]["exact"] == 0.75
    assert pairs["AB", "her2path"]["exact"] == 1.0


# -- doors -----------------------------------------------------------------------------------------


def test_who_may_not_and_what_cannot_be(out: Path) -> None:
    with viewing(out, reader="AB") as viewer:
        body = {"action": "give", "score": "2+"}
        assert call(viewer, "/slide/0/read", body, X_Her2path_Token="no")[0] == 403
        assert call(viewer, "/slide/0/read", body, Origin="http://evil.example")[0] == 403
        assert call(viewer, "/slide/0/read", body, Host="evil.example")[0] == 403
        assert call(viewer, "/slide/9/read", body)[0] == 404
        assert call(viewer, "/slide/0/read", {"action": "give"})[0] == 400
        assert not (out / "READS.csv").exists()
    with viewing(out) as viewer:  # nobody reads
        assert call(viewer, "/slide/0/read")[0] == 404
        assert call(viewer, "/slide/0/corrections")[0] == 200
    for wrong, why in (({"order": "given"}, "go with --read"), ({"again": True}, "go with --read"),
                       ({"reader": "AB", "order": "x"}, "Valid: random"),
                       ({"reader": "her2path"}, "something else")):  # fmt: skip
        with pytest.raises(UsageError, match=why):
            make_server(out, **wrong)
    with pytest.raises(UsageError, match="this is a batch"):
        make_server(out, out / "x.svs")


def test_a_single_slide_is_read_blind_too(out: Path) -> None:
    one = out / "slides" / "S4"
    with viewing(one, reader="AB") as viewer:
        assert call(viewer, "/corrections")[0] == 403
        assert "IHC" not in call(viewer, "/")[2].decode()
        assert call(viewer, "/read", {"action": "give", "score": "3+"})[0] == 200
        assert call(viewer, "/corrections")[0] == 200
        assert call(viewer, "/read", {"action": "sign"})[0] == 200
    assert (one / "READS.csv").is_file()
