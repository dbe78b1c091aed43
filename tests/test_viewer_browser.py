"""The viewer in a real browser: what is drawn lies where the cells are, and every control works."""

import io
import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import MISSING, browser, console, requests
from fake_run import make_run
from PIL import Image
from viewing import viewing

from her2path.core.schema import OUTLINE_RAYS
from her2path.io.corrections import read_corrections
from her2path.io.store import RunStore
from her2path.outputs.palette import SCORE_COLOURS, rgb
from her2path.outputs.viewer.desk import Viewer

pytestmark = pytest.mark.skipif(MISSING, reason="needs Chromium and its driver")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return make_run(tmp_path_factory.mktemp("pages") / "run", "clustered", slide=True)


@pytest.fixture(scope="module")
def viewer(run: RunStore) -> Iterator[Viewer]:
    with viewing(run.out) as made:
        yield made


@pytest.fixture(scope="module")
def driver(viewer: Viewer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser(tmp_path_factory.mktemp("browser"), (1280, 800)) as made:
        yield made


@pytest.fixture
def page(driver: Any, viewer: Viewer) -> Iterator[Any]:
    viewer.ledger.path.unlink(missing_ok=True)
    open_page(driver, viewer)
    yield driver
    assert console(driver) == []
    assert all(u.startswith(f"http://127.0.0.1:{viewer.port}/") for u in requests(driver))


def open_page(driver: Any, viewer: Viewer, hash_: str = "") -> None:
    driver.get("about:blank")
    driver.get(f"http://127.0.0.1:{viewer.port}/{hash_}")
    ready(driver)


def ready(driver: Any) -> None:
    until(lambda: driver.execute_script("return document.body.dataset.ready") == "yes")


def until(condition: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.05)


def go(driver: Any, x: float, y: float, step: float) -> None:
    driver.execute_script(
        "her2path.setView({x: arguments[0], y: arguments[1], step: arguments[2]})", x, y, step
    )


def settle(driver: Any) -> np.ndarray:
    """Wait until two pictures in a row are the same; return it as RGB."""
    last = None
    for _ in range(60):
        time.sleep(0.25)
        image = np.asarray(Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB"))
        if last is not None and np.array_equal(image, last):
            return image.astype(int)
        last = image
    raise AssertionError("the page did not come to rest")


def press(driver: Any, key: str) -> None:
    driver.execute_script(
        "document.activeElement.blur(); document.dispatchEvent("
        "new KeyboardEvent('keydown', {key: arguments[0], bubbles: true, cancelable: true}))",
        key,
    )


def click(driver: Any, x: float, y: float) -> None:
    """Click at a level-0 position."""
    left, top = driver.execute_script("return her2path.toPage(arguments[0], arguments[1])", x, y)
    from selenium.webdriver import ActionChains

    actions = ActionChains(driver)
    actions.w3c_actions.pointer_action.move_to_location(round(left), round(top))
    actions.w3c_actions.pointer_action.click()
    actions.perform()


@pytest.mark.parametrize("step", [0.15, 0.4, 0.8, 1.0, 1.5])
def test_the_overlay_lies_on_the_cells_at_every_zoom(page, run: RunStore, step: float) -> None:
    cells = [c for c in run.cells().to_pylist() if c["pattern"] == "intense_complete"]
    middle = min(cells, key=lambda c: abs(c["x_px"] - 900) + abs(c["y_px"] - 1500))
    go(page, middle["x_px"] + 3, middle["y_px"] - 5, step)
    over = settle(page)
    press(page, "o")
    under = settle(page)
    press(page, "o")
    angle = 2 * np.pi * np.arange(OUTLINE_RAYS) / OUTLINE_RAYS
    near = [
        c
        for c in cells
        if abs(c["x_px"] - middle["x_px"]) < 400 * step
        and abs(c["y_px"] - middle["y_px"]) < 250 * step
    ]
    assert near
    checked = 0
    dots = 0.25 * step > 0.8 * 1.25
    hits = []
    for cell in near[:40]:
        radius = np.array(cell["outline"]) / 100 / 0.25
        ring = np.stack(
            [cell["x_px"] + radius * np.cos(angle), cell["y_px"] + radius * np.sin(angle)], 1
        )
        here = np.array([page_at(page, *p) for p in [(cell["x_px"], cell["y_px"]), *ring[::4]]])
        at = np.floor(here).astype(int)
        if at.min() < 0 or at[:, 0].max() > 960 or at[:, 1].max() > over.shape[0] - 45:
            continue
        if at[:, 0].max() > 810 and at[:, 1].min() < 180:
            continue  # under the minimap
        nucleus = under[at[0, 1], at[0, 0]]
        checked += 1
        assert nucleus[2] > nucleus[1] + 15, "the slide's nucleus lies at the cell's centre"
        if not dots:
            seen = over[at[1:, 1], at[1:, 0]]
            hits.append(np.abs(seen - rgb(SCORE_COLOURS["3+"])).max(axis=1) < 90)
    assert checked >= 1
    assert dots or np.mean(hits) > 0.8


def page_at(driver: Any, x: float, y: float) -> list[float]:
    """As the page's own `toPage`, without asking the page each time."""
    view, box = _state(driver)
    return [
        box["left"] + box["width"] / 2 + (x - view["x"]) / view["step"],
        box["top"] + box["height"] / 2 + (y - view["y"]) / view["step"],
    ]


def _state(driver: Any) -> tuple[dict, dict]:
    url = driver.execute_script("return her2path.view()")
    if getattr(driver, "_seen", None) != url:
        driver._seen = url
        driver._box = driver.execute_script(
            "const b = document.getElementById('plot').getBoundingClientRect();"
            "return {left: b.left, top: b.top, width: b.width, height: b.height}"
        )
    return url, driver._box


def test_a_click_gives_the_right_cell(page, run: RunStore) -> None:
    for cell in run.cells().to_pylist()[1200::900]:
        go(page, cell["x_px"] + 40, cell["y_px"] - 30, 0.6)
        click(page, cell["x_px"], cell["y_px"])
        until(
            lambda c=cell: (
                page.find_element("id", "info").get_attribute("data-cell") == str(c["cell_id"])
            )
        )
        text = page.find_element("id", "info").text
        assert f"{cell['completeness']:.3f}" in text or cell["completeness"] in (0.0, 1.0)
        assert f"Region {cell['region_id']}" in text


def test_a_link_reopens_the_same_view(page, viewer: Viewer) -> None:
    go(page, 1234.5, 987.5, 0.75)
    press(page, "r")
    until(lambda: "step=0.75" in page.current_url and "regions" in page.current_url)
    link = page.current_url
    before = settle(page)
    open_page(page, viewer)
    assert page.execute_script("return her2path.view().step") != 0.75
    open_page(page, viewer, "#" + link.split("#")[1])
    view = page.execute_script("return her2path.view()")
    assert (view["x"], view["y"], view["step"]) == pytest.approx((1234.5, 987.5, 0.75))
    assert page.find_element("css selector", "#layers input[value=regions]").is_selected()
    assert np.abs(settle(page) - before).mean() < 0.5


def test_switches_and_filters_change_the_picture(page) -> None:
    go(page, 1500, 1200, 0.6)
    every = settle(page)
    press(page, "c")
    none = settle(page)
    assert np.abs(every - none).mean() > 1
    press(page, "c")
    assert np.abs(settle(page) - every).mean() < 0.1
    page.find_element("css selector", "#filter summary").click()
    for box in page.find_elements("css selector", "#filter input"):
        if box.get_attribute("value") != "intense_complete":
            box.click()
    settle(page)
    plot = page.execute_script(
        "const b = document.getElementById('plot').getBoundingClientRect();"
        "return [b.width, b.height]"
    )
    some = settle(page)
    part = np.s_[60 : int(plot[1]), : int(plot[0])]
    assert 0 < np.abs(some[part] - none[part]).mean() < np.abs(every[part] - none[part]).mean()
    assert "patterns=intense_complete" in page.current_url


def test_keys_move_zoom_and_jump(page, run: RunStore) -> None:
    page.find_element("id", "plot").click()
    start = page.execute_script("return her2path.view()")
    press(page, "+")
    press(page, "ArrowRight")
    now = page.execute_script("return her2path.view()")
    assert now["step"] == pytest.approx(start["step"] / 1.5)
    assert now["x"] > start["x"]
    press(page, "1")
    assert page.execute_script("return her2path.view().step") == pytest.approx(1.0)
    press(page, "n")
    first = page.execute_script("return fetch('/borderline').then((r) => r.json())")["cell"]
    until(
        lambda: page.find_element("id", "info").get_attribute("data-cell") == str(first["cell_id"])
    )
    view = page.execute_script("return her2path.view()")
    assert (view["x"], view["y"]) == pytest.approx((first["x_px"], first["y_px"]))
    assert "Borderline 1 of" in page.find_element("id", "borderline").text
    press(page, "b")
    until(
        lambda: page.find_element("id", "info").get_attribute("data-cell") != str(first["cell_id"])
    )
    press(page, "?")
    assert page.find_element("id", "help").is_displayed()
    press(page, "Escape")
    assert not page.find_element("id", "help").is_displayed()


def test_the_scale_bar_tells_the_truth(page) -> None:
    for step in (0.2, 0.9, 4.0):
        go(page, 2000, 1500, step)
        bar = page.find_element("id", "bar")
        words = bar.text.split()
        um = float(words[0]) * (1000 if words[1] == "mm" else 1)
        assert bar.rect["width"] * step * 0.25 == pytest.approx(um, rel=0.03)


def test_a_cell_is_corrected_and_the_correction_taken_back(
    page, viewer: Viewer, run: RunStore
) -> None:
    cell = run.cells().to_pylist()[700]
    go(page, cell["x_px"], cell["y_px"], 0.4)
    click(page, cell["x_px"], cell["y_px"])
    until(
        lambda: page.find_element("id", "info").get_attribute("data-cell") == str(cell["cell_id"])
    )
    save = page.find_element("css selector", "#cell-form button")
    page.find_element("css selector", "#pattern option[value=moderate_complete]").click()
    page.find_element("id", "reader").clear()
    save.click()
    until(lambda: "needs a reader" in page.find_element("id", "said").text)
    # the refusal is the server's 400, which the browser notes in its log
    assert all("400" in line for line in console(page))
    page.find_element("id", "reader").send_keys("Dr <b>")
    save.click()
    until(lambda: page.find_element("id", "said").text == "Saved.")
    (read,) = read_corrections(viewer.ledger.path)
    assert (read.cell_id, read.pattern, read.reader) == (
        cell["cell_id"],
        "moderate_complete",
        "Dr <b>",
    )
    until(lambda: page.find_element("id", "count").text == "1")
    assert "Dr <b>" in page.find_element("id", "saved").text
    page.find_element("css selector", "#saved li button:last-of-type").click()
    until(lambda: page.find_element("id", "count").text == "0")
    assert read_corrections(viewer.ledger.path) == []
    page.find_element("id", "undo").click()  # the taking back is taken back
    until(lambda: page.find_element("id", "count").text == "1")
    assert read_corrections(viewer.ledger.path) == [read]


def test_a_region_is_marked_by_clicking_its_corners(page, viewer: Viewer) -> None:
    go(page, 2000, 1500, 2.0)
    page.find_element("id", "reader").clear()
    page.find_element("id", "reader").send_keys("AB")
    page.find_element("css selector", "#region-class option:nth-child(2)").click()
    page.find_element("id", "mark").click()
    corners = [(1600, 1200), (2400, 1210), (2300, 1800)]
    for corner in corners:
        click(page, *corner)
        time.sleep(0.4)  # two quick clicks would be one double click
    press(page, "Enter")
    until(lambda: page.find_element("id", "said").text == "Region saved.")
    (feature,) = json.loads(viewer.ledger.path.read_text())["features"]
    assert feature["properties"]["classification"]["name"] == "in situ"
    assert np.allclose(feature["geometry"]["coordinates"][0][:3], corners, atol=1.5)


def test_an_area_is_changed_by_its_corners_and_undone(page, viewer: Viewer) -> None:
    from selenium.webdriver import ActionChains

    ring = [[1600, 1200], [2400, 1210], [2300, 1800]]
    made = viewer.ledger.mark_region(ring, "tumour", None, "AB")
    open_page(page, viewer)
    go(page, 2000, 1500, 2.0)
    page.find_element("id", "reader").clear()
    page.find_element("id", "reader").send_keys("CD")
    page.find_element("css selector", "#saved li button:nth-of-type(2)").click()
    until(lambda: page.find_element("id", "editing").is_displayed())
    at = lambda: viewer.ledger.features()[0]["geometry"]["coordinates"][0][0]  # noqa: E731
    left, top = page.execute_script("return her2path.toPage(1600, 1200)")
    actions = ActionChains(page)
    pointer = actions.w3c_actions.pointer_action
    pointer.move_to_location(round(left), round(top))
    pointer.pointer_down()
    pointer.move_to_location(round(left) + 40, round(top) + 30)
    pointer.pointer_up()
    actions.perform()
    step = page.execute_script("return her2path.view().step")
    until(lambda: page.find_element("id", "said").text == "Area changed.")
    assert np.allclose(at(), [1600 + 40 * step, 1200 + 30 * step], atol=step)
    press(page, "Escape")
    page.find_element("id", "undo").click()
    until(lambda: page.find_element("id", "said").text == "Undone.")
    assert viewer.ledger.features() == [made]
    page.find_element("id", "redo").click()
    until(lambda: page.find_element("id", "said").text == "Done again.")
    assert np.allclose(at(), [1600 + 40 * step, 1200 + 30 * step], atol=step)


def test_what_is_no_longer_wanted_is_let_go_of(page, viewer: Viewer) -> None:
    """Eight moves in two seconds: the tiles of the views in between are not waited for."""
    drawn: list[str] = []
    kept = viewer.tiles.overlay_tile

    def slow(z: int, x: int, y: int, *more: Any) -> bytes:
        drawn.append(f"{z}/{x}/{y}")
        time.sleep(0.3)
        return kept(z, x, y, *more)

    viewer.tiles.overlay_tile = slow  # type: ignore[method-assign]
    try:
        page.execute_script("her2path.tiles.cache.clear()")
        asked = set()
        for move in range(8):
            go(page, 500 + 380 * move, 400 + 300 * move, 0.35)
            time.sleep(0.25)
            asked |= set(
                page.execute_script(
                    "return her2path.tiles.inView().map((t) => t.z + '/' + t.x + '/' + t.y)"
                )
            )
        until(lambda: complete(page))
    finally:
        viewer.tiles.overlay_tile = kept  # type: ignore[method-assign]
    # on a busy machine the moves are slow, and more of them are drawn in time
    assert len(set(drawn)) < 0.95 * len(asked)
    assert page.execute_script("return her2path.tiles.jobs.size") == 0


def complete(driver: Any) -> bool:
    return bool(
        driver.execute_script("return document.getElementById('plot').dataset.complete") == "yes"
    )


def test_keys_work_after_a_click_on_a_button(page) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    page.find_element("id", "help-button").click()
    page.find_element("id", "help-button").click()
    before = page.execute_script("return her2path.view().step")
    ActionChains(page).send_keys("+").perform()
    assert page.execute_script("return her2path.view().step") == pytest.approx(before / 1.5)
    page.find_element("css selector", "#layers input[value=cells]").click()
    ActionChains(page).send_keys(Keys.ARROW_RIGHT, "c").perform()
    assert page.find_element("css selector", "#layers input[value=cells]").is_selected()
    # what is typed is typed
    page.find_element("id", "reader").clear()
    page.find_element("id", "reader").send_keys("c+n")
    assert page.find_element("id", "reader").get_attribute("value") == "c+n"
    assert page.find_element("css selector", "#layers input[value=cells]").is_selected()


def test_pointer_magnification_and_minimap(page) -> None:
    from selenium.webdriver import ActionChains

    page.find_element("css selector", "#magnification option[value='20']").click()
    assert page.execute_script("return her2path.view().step") * 0.25 == pytest.approx(0.5)
    assert page.find_element("id", "zoom").text.startswith("20×")
    left, top = page.execute_script("return her2path.toPage(1500, 1000)")
    go(page, 1500, 1000, 1.0)
    left, top = page.execute_script("return her2path.toPage(1500, 1000)")
    actions = ActionChains(page)
    actions.w3c_actions.pointer_action.move_to_location(round(left), round(top))
    actions.perform()
    x, y = page.find_element("id", "pointer").text.split(" px")[0].split(", ")
    assert (float(x), float(y)) == pytest.approx((1500, 1000), abs=1.5)
    small = page.find_element("id", "minimap").rect
    actions = ActionChains(page)
    pointer = actions.w3c_actions.pointer_action
    pointer.move_to_location(
        round(small["x"] + small["width"] / 4), round(small["y"] + small["height"] / 4)
    )
    pointer.click()
    actions.perform()
    view = page.execute_script("return her2path.view()")
    assert (view["x"], view["y"]) == pytest.approx((1024, 768), rel=0.05)


def test_stains_measures_and_opacity_change_the_picture(page) -> None:
    go(page, 1500, 1200, 0.6)
    seen = [settle(page)]
    choices = (
        "#view input[value=hematoxylin]",
        "#view input[value=dab]",
        "#measure option[value=completeness]",
        "#layers input[value=heat]",
    )
    for choice in choices:
        page.find_element("css selector", choice).click()
        until(lambda: complete(page))
        seen.append(settle(page)[60:, :800])
    seen[0] = seen[0][60:, :800]
    for one, other in pairwise(seen):
        assert np.abs(one - other).mean() > 1
    assert page.find_element("id", "ramp-high").text == "1"
    page.execute_script(
        "const o = document.getElementById('opacity'); o.value = 0;"
        "o.dispatchEvent(new Event('input'))"
    )
    assert np.abs(settle(page)[60:, :800] - seen[-1]).mean() > 1


def test_a_moved_slide_is_said(run: RunStore, tmp_path: Path, driver: Any) -> None:
    with viewing(run.out, tmp_path / "gone.svs") as viewer:
        open_page(driver, viewer)
        assert "only its overview" in driver.find_element("css selector", ".note").text
        assert console(driver) == []
        requests(driver)
