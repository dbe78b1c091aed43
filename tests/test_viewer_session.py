"""A blind reading session as a reader has it: five slides, killed in the middle, gone on with."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import MISSING, browser, console
from fake_batch import make_batch
from test_viewer_browser import ready, until

from her2path.runs.cohort.tables import read_rows

pytestmark = [
    pytest.mark.skipif(MISSING, reason="needs Chromium and its driver"), pytest.mark.slow,
]  # fmt: skip


@contextmanager
def view(out: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "her2path", "view", str(out), "--no-browser", *more]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = next(line for line in process.stderr if line.startswith("http")).strip()
        try:
            yield process, address
        finally:
            process.send_signal(signal.SIGINT)


def choose(driver: Any, score: str) -> None:
    driver.find_element("css selector", f'#choices input[value="{score}"]').click()


def give(driver: Any, score: str) -> None:
    choose(driver, score)
    driver.find_element("id", "give").click()
    until(lambda: driver.find_elements("id", "machine"))
    ready(driver)


def test_a_session_is_killed_and_gone_on_with(tmp_path: Path) -> None:
    out = make_batch(tmp_path / "OUT")
    with browser(tmp_path / "chromium") as driver:
        with view(out, "--read", "AB", "--order", "given") as (process, address):
            driver.get(address)
            driver.find_element("id", "go-on").click()
            ready(driver)
            assert not driver.find_elements("id", "layers")
            give(driver, "0/null")
            driver.find_element("id", "keep").click()
            until(lambda: "(kept)" in driver.page_source)
            ready(driver)
            driver.get(address + "slide/1")
            ready(driver)
            give(driver, "1+")
            driver.get(address + "slide/2")
            ready(driver)
            choose(driver, "2+")
            driver.find_element("id", "comment").send_keys("half done")
            until(lambda: "half done" in next((out / "reads").glob("*.jsonl")).read_text())
            process.kill()
        console(driver)  # the page has lost its server
        with view(out, "--read", "AB") as (_, address):
            driver.get(address)
            assert "2 of 5 read, 1 to keep or change" in driver.page_source
            driver.find_element("id", "go-on").click()
            ready(driver)
            assert driver.current_url.split("#")[0].endswith("/slide/2")
            assert driver.find_element("id", "comment").get_attribute("value") == "half done"
            give(driver, "2+")
            driver.find_element("css selector", "#change option[value='3+']").click()
            driver.find_element("id", "do-change").click()
            until(lambda: "(changed)" in driver.page_source)
            ready(driver)
            driver.find_element("id", "sign").click()
            until(lambda: driver.find_elements("id", "locked"))
            assert not driver.find_elements("id", "decide-form")
            for number, score in ((3, "3+"), (4, "")):
                driver.get(f"{address}slide/{number}")
                ready(driver)
                give(driver, score)
            driver.get(address)
            assert "5 of 5 read" in driver.page_source
            # the killed server may still be asked for by the page that it left behind
            assert [m for m in console(driver) if address in m or "http" not in m] == []
    rows = {r["slide_id"]: r for r in read_rows(out / "READS.csv")}
    assert [rows[f"S{n}"]["score"] for n in range(1, 6)] == ["0/null", "1+", "2+", "3+", ""]
    assert (rows["S3"]["score_before"], rows["S3"]["score_after"]) == ("2+", "3+")
    assert rows["S3"]["comment"] == "half done"
    agree = [sys.executable, "-m", "her2path", "agree", str(out / "READS.csv"), "--results",
             str(out), "-o", str(tmp_path / "A"), "--draws", "100"]  # fmt: skip
    assert subprocess.run(agree, check=False).returncode == 0
    assert (tmp_path / "A" / "report.html").is_file()
