"""How a batch stands: the live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from her2path.cli.progress_table import picture
from her2path.runs.cohort.progress import BatchProgress, Log, clock


def _standing(changed: object = None) -> BatchProgress:
    board = BatchProgress(changed)  # type: ignore[arg-type]
    board.begin("slides", ["a", "[red]b[/red]", "c" * 200, "d", "e"])
    board.tell(0, "reading cells", 3, 9, 40.0)
    board.tell(1, "looking", 0, 1, 0.0)
    board.end(0, "done")
    board.end(1, "failed")
    board.tell(2, "reading cells", 1, 4, 10.0)
    board.tell(3, "opening", 0, 1, 0.0)
    return board


def _drawn(board: BatchProgress) -> list[str]:
    console = Console(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(picture(board))
    console.file.close()
    return console.export_text().splitlines()


def test_the_table_has_what_is_worked_on_and_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    board = _standing()
    board.begun -= 10.0
    head, *rows, last = _drawn(board)
    assert head.split() == ["slide", "stage", "done", "time"]
    assert [r.split()[0][:9] for r in rows] == ["c" * 9, "d"]
    assert rows[0].split()[1:4] == ["reading", "cells", "1/4"]
    # 40 Mpx of the one that ended, 10 of the one at work, in ten seconds
    assert re.fullmatch(r"2 of 5 slides, 1 failed, 5\.0 Mpx/s, 0:00:15 left", last.strip())


def test_names_are_no_markup() -> None:
    board = _standing()
    board.tell(1, "looking", 0, 1, 0.0)
    assert any("[red]b[/red]" in line for line in _drawn(board))


def test_the_line_names_what_was_there_and_what_was_not_evaluable() -> None:
    board = BatchProgress()
    board.begin("slides", ["a", "b", "c"])
    board.end(0, "kept")
    assert board.left_s is None
    board.end(1, "not_evaluable")
    assert "1 not evaluable" in board.line()
    assert "1 were complete already" in board.line()
    assert "left" in board.line()
    assert clock(3725) == "1:02:05"


def test_the_log_has_plain_lines(tmp_path: Path) -> None:
    log = Log(tmp_path / "batch.log")
    log.say("slide \x1b[31mx\ny: done")
    log.summary(_standing())
    (line,) = (tmp_path / "batch.log").read_text().splitlines()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00 slide ", line)
    assert "\x1b" not in line


#: stands in for a batch: the table while it runs, then the words at the end
_SHOW = """
import sys, time
sys.path.insert(0, {tests!r})
from test_cohort_live import _standing
from her2path.cli.batch import _live
with _live(False) as changed:
    # while the table is there, rich takes what is printed to where the table is
    print("a table" if changed else "no table", file=sys.__stdout__, flush=True)
    board = _standing(changed)
    time.sleep(0.3)
    board.tell(3, "opening", 0, 1, 0.0)
"""


def _shown(tmp_path: Path, terminal: bool) -> tuple[str, str]:
    script = tmp_path / "show.py"
    script.write_text(_SHOW.format(tests=os.fspath(Path(__file__).parent)))
    ours, theirs = pty.openpty()
    with (tmp_path / "err").open("wb") as file:
        done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True,
                              stderr=theirs if terminal else file, check=True,
                              env={**os.environ, "TERM": "xterm", "COLUMNS": "100"})  # fmt: skip
    os.close(theirs)
    said = _read_all(ours) if terminal else (tmp_path / "err").read_text()
    os.close(ours)
    return done.stdout, said


def _read_all(handle: int) -> str:
    out = b""
    while True:
        try:
            more = os.read(handle, 4096)
        except OSError:  # how a terminal ends
            return out.decode()
        if not more:
            return out.decode()
        out += more


def test_a_terminal_gets_the_table_and_a_file_nothing(tmp_path: Path) -> None:
    words, said = _shown(tmp_path, terminal=True)
    assert words == "a table\n"
    assert "2 of 5 slides, 1 failed" in said
    assert "\x1b[" in said
    words, said = _shown(tmp_path, terminal=False)
    assert (words, said) == ("no table\n", "")
