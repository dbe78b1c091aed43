"""How long the viewer takes to be complete after eight moves in two seconds; how large tiles are.

Needs Chromium, its driver and selenium. ``python -m scripts.bench.viewer OUT`` on a finished run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MOVES, SECONDS = 8, 2.0
#: µm a screen pixel: outlines, outlines and dots, dots, bins
STEPS_UM = (0.25, 0.5, 1.0, 4.0)


@contextmanager
def serving(out: str) -> Iterator[str]:
    """Run ``her2path view`` and yield its address."""
    command = [sys.executable, "-m", "her2path", "view", out, "--no-browser"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        yield next(line for line in process.stderr if line.startswith("http")).strip()
        process.terminate()


def until(driver: Any, script: str) -> float:
    """Return the seconds until a script returns true."""
    start = time.monotonic()
    while not driver.execute_script(script):
        if time.monotonic() - start > 60:
            raise TimeoutError(script)
        time.sleep(0.01)
    return time.monotonic() - start


def moved(driver: Any, step_um: float, start: float) -> float:
    """Move eight times in two seconds; return the seconds until all tiles of the last view show."""
    driver.execute_script("her2path.tiles.cache.clear()")
    facts = json.loads(driver.execute_script("return document.body.dataset.facts"))
    step = step_um / facts["mpp"]
    for k in range(MOVES):
        x, y = facts["width"] * (start + 0.06 * k), facts["height"] * (0.2 + 0.07 * k)
        driver.execute_script(f"her2path.setView({{x: {x}, y: {y}, step: {step}}})")
        time.sleep(SECONDS / MOVES)
    complete = "return document.getElementById('plot').dataset.complete === 'yes'"
    return until(driver, complete)


def main() -> None:
    """Measure and print."""
    from tests.browser import browser

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with serving(given.out) as address, browser(Path(tempfile.mkdtemp()), (1280, 900)) as driver:
        driver.get(address)
        until(driver, "return document.body.dataset.ready === 'yes'")
        for step in STEPS_UM:
            took = [moved(driver, step, 0.1 + 0.1 * k) for k in range(given.rounds)]
            sizes = driver.execute_script(
                "return performance.getEntriesByType('resource').filter((e) => "
                "e.name.includes('/tile/overlay')).map((e) => e.encodedBodySize)")  # fmt: skip
            driver.execute_script("performance.clearResourceTimings()")
            line = (f"{step:.2f} µm/px: complete {statistics.median(took):.2f} s after the last "
                    f"move (longest {max(took):.2f}); largest overlay tile "
                    f"{max(sizes, default=0) / 1000:.0f} kB\n")  # fmt: skip
            sys.stdout.write(line)


if __name__ == "__main__":
    main()
