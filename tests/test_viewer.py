"""The viewer's server: tiles that fit, answers that are right, doors that stay shut."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_run import MPP, make_run
from viewing import call, viewing

from her2path.core.errors import OutputError
from her2path.core.geometry import Box
from her2path.core.schema import OUTLINE_RAYS, PATTERNS
from her2path.io.corrections import apply_corrections, read_corrections
from her2path.io.store import RunStore
from her2path.outputs.palette import SCORE_COLOURS, rgb
from her2path.outputs.viewer import make_server
from her2path.outputs.viewer import tiles as tiles_module
from her2path.outputs.viewer.desk import Viewer
from her2path.outputs.viewer.index import CLASSES, OTHER, build_index
from her2path.outputs.viewer.tiles import IMAGE_PX, Plane, Tiles

ALL = np.ones(CLASSES, bool)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return make_run(tmp_path_factory.mktemp("viewer") / "run", "clustered", slide=True)


@pytest.fixture(scope="module")
def viewer(run: RunStore) -> Iterator[Viewer]:
    with viewing(run.out) as made:
        yield made


def picture(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return image[..., [2, 1, 0, *range(3, image.shape[2])]]


# -- geometry --------------------------------------------------------------------------------------


def test_the_pyramid_covers_the_plane() -> None:
    plane = Plane(100_000, 80_000, 0.25)
    assert plane.side_px >= 100_000 > plane.side_px / 2
    assert plane.step(plane.z_max) == 0.5
    assert plane.origin(plane.z_max, 3, 5) == (768.0, 1280.0)
    assert Plane(100, 50, 0.25).z_max == 0


def test_cells_are_found_like_by_looking_at_all(run: RunStore) -> None:
    index = build_index(run, run.result().slide.planes)
    table = run.cells()
    x, y = table["x_px"].to_numpy(), table["y_px"].to_numpy()
    assert sorted(index.cells.cell_id) == sorted(table["cell_id"].to_pylist())
    for box in (
        Box(-50, -50, 300, 300),
        Box(1000, 900, 1700, 1601),
        Box(4000, 3000, 9000, 9000),
        Box(-900, -900, -5, -5),
        Box(0, 0, 4096, 3072),
    ):
        inside = (x >= box.x0) & (x < box.x1) & (y >= box.y0) & (y < box.y1)
        expected = set(table["cell_id"].to_numpy()[inside])
        assert set(index.cells.cell_id[index.in_box(box)]) == expected


def test_a_point_finds_the_cell_around_it_and_no_other(run: RunStore) -> None:
    index = build_index(run, run.result().slide.planes)
    for row in range(0, len(index.cells), 101):
        x, y = float(index.cells.x_px[row]), float(index.cells.y_px[row])
        assert index.at(x, y) == row
        edge = index.cells.radius[row, 12] * 0.1 / MPP  # ray 12 of 48 points down
        assert index.at(x, y + edge - 1) == row
        assert index.at(x, y + edge + 1) != row
    assert index.at(0.0, 0.0) is None
    assert index.at(-1e6, 1e6) is None


# -- tiles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("z", [4, 3])
def test_overlay_lies_on_the_cells(run: RunStore, z: int) -> None:
    """Outlines on the drawn rings, and nuclei in the slide's tile inside of them."""
    tiles = Tiles(run)
    step = tiles.plane.step(z)
    checked = 0
    for column, row in ((3, 3), (9, 6)) if z == 4 else ((1, 1), (4, 3)):
        origin = tiles.plane.origin(z, column, row)
        over = picture(tiles.overlay_tile(z, column, row, ["cells"], ALL)).astype(int)
        under = picture(tiles.slide_tile(z, column, row)).astype(int)
        side = IMAGE_PX * step
        rows = tiles.index.in_box(
            Box(*(int(v) for v in (*origin, origin[0] + side, origin[1] + side)))
        )
        for cell in rows:
            ring = (tiles.index.outlines_px(np.array([cell]))[0] - origin) / step - 0.5
            if ring.min() < 3 or ring.max() > IMAGE_PX - 4:
                continue
            at = np.round(ring).astype(int)
            colour = np.array(tiles._colour(cell))
            drawn = over[at[:, 1], at[:, 0]]
            assert (np.abs(drawn[:, :3] - colour).max(axis=1) < 60).mean() > 0.7
            centre = np.round(ring.mean(axis=0)).astype(int)
            assert over[centre[1], centre[0], 3] == 0
            nucleus = under[centre[1], centre[0]]
            assert nucleus[2] > nucleus[1] + 30  # blue
            if tiles.index.cells.kind[cell] == PATTERNS.index("intense_complete"):
                brown = under[at[:, 1], at[:, 0]]
                assert np.median(brown[:, 0] - brown[:, 2]) > 40
            checked += 1
    assert checked > 20
    tiles.close()


def test_heat_is_the_mean_score_of_the_shown_cells(run: RunStore, monkeypatch) -> None:
    monkeypatch.setattr(tiles_module, "DOTS_UM", 0.0)
    tiles = Tiles(run)
    far = picture(tiles.overlay_tile(0, 0, 0, ["cells"], ALL))
    assert far[100, 40, 3] == far[100, 300, 3] == 170
    strong, weak = np.array(rgb(SCORE_COLOURS["3+"])), np.array(rgb(SCORE_COLOURS["0"]))
    for column, near, other in ((60, strong, weak), (350, weak, strong)):
        shown = far[40:300, column - 20 : column + 20, :3].reshape(-1, 3).mean(axis=0)
        assert np.abs(shown - near).sum() < np.abs(shown - other).sum()
    assert not far[400:, :, 3].any()
    nothing = picture(tiles.overlay_tile(0, 0, 0, ["cells"], np.zeros(CLASSES, bool)))
    assert not nothing[..., 3].any()
    tiles.close()


@pytest.mark.parametrize("z", [0, 2, 4])
def test_a_filter_leaves_only_its_cells(run: RunStore, z: int) -> None:
    tiles = Tiles(run)
    only = np.zeros(CLASSES, bool)
    only[PATTERNS.index("intense_complete")] = True
    x, y = (1, 1) if z else (0, 0)
    everything = picture(tiles.overlay_tile(z, x, y, ["cells"], ALL))[..., 3] > 0
    some = picture(tiles.overlay_tile(z, x, y, ["cells"], only))
    assert 0 < (some[..., 3] > 0).sum() < everything.sum()
    colours = some[some[..., 3] > 200][:, :3].astype(int)
    if len(colours):
        # crimson, or its white halo
        assert np.median(np.abs(colours - rgb(SCORE_COLOURS["3+"])).max(axis=1)) < 60
    tiles.close()


def test_every_layer_draws_something(run: RunStore, tmp_path: Path) -> None:
    tiles = Tiles(run)
    for layer in ("cells", "regions", "tumour", "tissue"):
        assert picture(tiles.overlay_tile(1, 0, 0, [layer], ALL))[..., 3].any(), layer
    for layer in ("qc", "annotations"):  # the synthetic run has none
        assert not picture(tiles.overlay_tile(1, 0, 0, [layer], ALL))[..., 3].any(), layer
    tiles.close()


def test_without_the_slide_the_overview_stands_in(run: RunStore, tmp_path: Path) -> None:
    with_slide, without = Tiles(run), Tiles(run, tmp_path / "moved.svs")
    assert with_slide.why_no_slide == ""
    assert "moved.svs" in without.why_no_slide
    for z, x, y in ((0, 0, 0), (2, 1, 1)):
        # the overview is blurred, so that only what lies where can be compared
        a, b = (
            cv2.resize(picture(t.slide_tile(z, x, y)), (32, 32), interpolation=cv2.INTER_AREA)
            for t in (with_slide, without)
        )
        same = np.corrcoef(a.ravel(), b.ravel())[0, 1]
        moved = np.corrcoef(a[:, 2:].ravel(), b[:, :-2].ravel())[0, 1]
        assert same > 0.97, z
        assert same > moved + 0.05, z
    other = make_run(
        tmp_path / "other" / "run",
        "zero",
        slide=True,
        plane=__import__("fake_run").Plane(1024, 1024),
    )
    wrong = Tiles(run, other.out.parent / "run.svs")
    assert "another slide" in wrong.why_no_slide
    with_slide.close()


def test_a_run_without_cells_can_be_viewed(tmp_path: Path) -> None:
    store = make_run(tmp_path / "run", "not_evaluable")
    store.regions_path.unlink()
    for part in store.cells_path.iterdir():
        part.unlink()
    store.cells_path.rmdir()
    tiles = Tiles(store)
    assert not picture(tiles.overlay_tile(0, 0, 0, ["cells", "regions"], ALL))[..., 3].any()
    assert tiles.index.at(10, 10) is None
    assert tiles.region_at(10, 10) is None


# -- answers ---------------------------------------------------------------------------------------


def test_a_click_gives_the_right_cell_and_region(viewer: Viewer, run: RunStore) -> None:
    for cell in run.cells().to_pylist()[::500]:
        status, _, body = call(viewer, f"/at?x={cell['x_px']}&y={cell['y_px']}")
        assert status == 200
        found = json.loads(body)
        assert found["cell"]["cell_id"] == str(cell["cell_id"])
        assert found["cell"]["completeness"] == pytest.approx(cell["completeness"], abs=1e-5)
        assert found["cell"]["pattern"] == cell["pattern"]
        assert len(found["cell"]["ring"]) == 48
        assert found["region"]["region_id"] == cell["region_id"]
    assert json.loads(call(viewer, "/at?x=-100&y=-100")[2]) == {"cell": None, "region": None}


@pytest.mark.parametrize("query", ["", "?x=1", "?x=nan&y=1", "?x=inf&y=1", "?x=a&y=1"])
def test_a_click_nowhere_is_refused(viewer: Viewer, query: str) -> None:
    assert call(viewer, f"/at{query}")[0] == 400


def test_tiles_are_served_and_end_with_the_pyramid(viewer: Viewer) -> None:
    status, headers, body = call(viewer, "/tile/slide/4/3/3")
    assert status == 200
    assert headers["Content-Type"] == "image/jpeg"
    assert picture(body).shape == (512, 512, 3)
    status, _, body = call(viewer, "/tile/overlay/4/3/3?layers=cells,nonsense&patterns=none,x")
    assert status == 200
    assert picture(body).shape == (512, 512, 4)
    for path in (
        "/tile/slide/5/0/0",
        "/tile/slide/4/16/0",
        "/tile/slide/4/0/16",
        "/tile/other/1/0/0",
        "/tile/slide/-1/0/0",
        "/tile/slide/99/0/0",
    ):
        assert call(viewer, path)[0] == 404, path


def test_borderline_cells_are_listed(viewer: Viewer, run: RunStore) -> None:
    """All of them, not a sample; the nearest to a cut-off first."""
    membrane = run.settings().membrane
    error = membrane.cutoffs_relative_error
    near = {}
    for c in run.cells().to_pylist():
        if c["cell_type"] == "tumour" and c[membrane.measure] > 0:
            far = [abs(c[membrane.measure] / cut - 1) / error for cut in membrane.cutoffs]
            near[str(c["cell_id"])] = min(
                *far, abs(c["completeness"] - membrane.complete_at) * OUTLINE_RAYS
            )
    wanted = {k: v for k, v in near.items() if v <= 1}
    listed = [json.loads(call(viewer, f"/borderline?at={i}")[2]) for i in (0, 1, 2, -1)]
    assert {found["total"] for found in listed} == {len(wanted)}
    assert len(wanted) > 100
    order = [near[found["cell"]["cell_id"]] for found in listed]
    assert order == sorted(order)
    assert order[0] == pytest.approx(min(wanted.values()))
    assert order[-1] == pytest.approx(max(wanted.values()))
    assert "near" in listed[0]["cell"]["why"]


# -- doors -----------------------------------------------------------------------------------------


def test_it_listens_on_loopback_only(viewer: Viewer) -> None:
    others = {
        a[4][0] for a in socket.getaddrinfo(socket.gethostname(), viewer.port, socket.AF_INET)
    }
    for address in others - {"127.0.0.1"}:
        if address.startswith("127."):
            continue
        with pytest.raises(OSError):
            socket.create_connection((address, viewer.port), timeout=2).close()


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1",
        "localhost:1",
        "127.0.0.1:{port}.evil.example",
        "[::1]:{port}",
    ],
)
@pytest.mark.parametrize("path", ["/", "/tile/slide/0/0/0", "/corrections", "/nothing"])
def test_another_host_is_refused(viewer: Viewer, host: str, path: str) -> None:
    assert call(viewer, path, Host=host.format(port=viewer.port))[0] == 403


@pytest.mark.parametrize(
    "headers",
    [{"Origin": ""}, {"Origin": "http://evil.example"}, {"Origin": "null"},
     {"Origin": "https://127.0.0.1:{port}"}, {"Origin": "http://127.0.0.1:1"},
     {"X_Her2path_Token": ""}, {"X_Her2path_Token": "wrong"}, {"X_Her2path_Token": "ümlaut"}],
)  # fmt: skip
def test_saving_needs_origin_and_token(viewer: Viewer, headers: dict[str, str]) -> None:
    sent = {k: v.format(port=viewer.port).encode().decode("latin-1") for k, v in headers.items()}
    body = {"action": "region", "ring": [[0, 0], [9, 0], [9, 9]], "class": "tumour", "reader": "AB"}
    assert call(viewer, "/corrections", body, **sent)[0] == 403
    assert not viewer.ledger.path.exists()


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_do_nothing(viewer: Viewer, method: str) -> None:
    assert call(viewer, "/corrections", {"action": "cell"}, method)[0] in (403, 405)
    assert call(viewer, "/corrections", method=method)[0] == 403


@pytest.mark.parametrize(
    "path",
    ["/files/../server.py", "/files/..%2fserver.py", "/files/secret.js", "/files/", "/etc/passwd",
     "/../../etc/passwd", "/files/viewer.html.j2", "/result.json", "//etc/passwd"],
)  # fmt: skip
def test_no_other_file_is_served(viewer: Viewer, path: str) -> None:
    status, _, body = call(viewer, path)
    assert status in (403, 404)
    assert b"root:" not in body
    assert b"import" not in body


def test_answers_carry_their_guards(viewer: Viewer) -> None:
    _, headers, body = call(viewer, "/")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "script-src 'self';" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Server" not in headers
    text = body.decode()
    assert "synthetic &lt;clustered&gt;" in text
    assert "http://" not in text
    assert "https://" not in text


def test_each_start_has_its_own_token(run: RunStore, viewer: Viewer) -> None:
    with viewing(run.out) as second:
        assert second.token != viewer.token
        assert second.port != viewer.port


def test_a_taken_port_and_a_missing_run_are_one_line(
    run: RunStore, viewer: Viewer, tmp_path
) -> None:
    with pytest.raises(OutputError, match=f"port {viewer.port} cannot be opened"):
        make_server(run.out, port=viewer.port)
    with pytest.raises(OutputError, match="no complete result"):
        make_server(tmp_path)


# -- corrections -----------------------------------------------------------------------------------


@pytest.fixture
def ledger(viewer: Viewer) -> Iterator[Viewer]:
    viewer.ledger.path.unlink(missing_ok=True)
    yield viewer
    viewer.ledger.path.unlink(missing_ok=True)


def test_a_correction_is_saved_and_applied(ledger: Viewer, run: RunStore) -> None:
    cells = run.cells()
    cell = next(
        c for c in cells.to_pylist() if c["pattern"] == "none" and c["cell_type"] == "tumour"
    )
    body = {
        "action": "cell",
        "cell_id": str(cell["cell_id"]),
        "pattern": "moderate_complete",
        "cell_type": None,
        "reader": "A. B. <i>",
    }
    status, _, answer = call(ledger, "/corrections", body)
    assert status == 200
    made = json.loads(answer)
    assert made["properties"]["machine_pattern"] == "none"
    assert made["properties"]["time"].endswith("+00:00")
    (read,) = read_corrections(ledger.ledger.path)
    assert (read.cell_id, read.pattern, read.reader) == (
        cell["cell_id"],
        "moderate_complete",
        "A. B. <i>",
    )
    after = apply_corrections(cells, [read]).to_pylist()
    (changed,) = [c for c in after if c["reader"] is not None]
    assert changed["cell_id"] == cell["cell_id"]
    assert changed["pattern"] == "moderate_complete"
    assert changed["machine_pattern"] == "none"
    assert changed["score"] == 2


def test_a_marked_region_is_saved_and_can_be_taken_back(ledger: Viewer) -> None:
    ring = [[10, 10], [500.25, 10], [500, 400]]
    body = {"action": "region", "ring": ring, "class": "in situ", "name": "duct", "reader": "AB"}
    made = json.loads(call(ledger, "/corrections", body)[2])
    assert made["geometry"]["coordinates"] == [[[10, 10], [500.2, 10], [500, 400], [10, 10]]]
    assert made["properties"]["classification"] == {"name": "in situ"}
    listed = json.loads(call(ledger, "/corrections")[2])
    assert [f["id"] for f in listed] == [made["id"]]
    assert read_corrections(ledger.ledger.path) == []
    assert call(ledger, "/corrections", {"action": "remove", "id": made["id"]})[0] == 200
    assert json.loads(call(ledger, "/corrections")[2]) == []
    assert call(ledger, "/corrections", {"action": "remove", "id": made["id"]})[0] == 400


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"action": "cell", "cell_id": "1", "pattern": "none", "reader": "A"}, "No such cell"),
        ({"action": "cell", "cell_id": "x", "reader": "A"}, "No such cell"),
        ({"action": "cell", "cell_id": str(2**70), "reader": "A"}, "No such cell"),
        ({"action": "region", "ring": [[0, 0], [1, 1]], "reader": "A"}, "3 to 5000 points"),
        ({"action": "region", "ring": [[0, 0], [1, 1], [1]], "reader": "A"}, "two numbers"),
        ({"action": "region", "ring": [[0, 0], [1, 1], [1, "x"]], "reader": "A"}, "two numbers"),
        ({"action": "region", "ring": "text", "reader": "A"}, "3 to 5000 points"),
        (
            {"action": "region", "ring": [[0, 0]] * 3, "class": "x", "reader": "A"},
            "no region class",
        ),
        ({"action": "region", "ring": [[0, 0]] * 3, "class": "tumour"}, "needs a reader"),
        ({"action": "region", "ring": [[0, 0]] * 3, "reader": " \n"}, "needs a reader"),
        ({"action": "explode"}, "No such action"),
        ({}, "No such action"),
        (["cell"], "Not an object"),
        (b"{", "Not JSON"),
        (b"[" * 100_000, "Not JSON"),
    ],
)
def test_nonsense_is_refused_in_one_line(ledger: Viewer, body, said: str) -> None:
    status, _, answer = call(ledger, "/corrections", body)
    assert status == 400
    assert said in json.loads(answer)["error"]
    assert not ledger.ledger.path.exists()


def test_a_correction_must_correct(ledger: Viewer, run: RunStore) -> None:
    number = str(run.cells(["cell_id"])["cell_id"][5].as_py())
    for more, said in (
        ({"pattern": "", "reader": "A"}, "nothing was corrected"),
        ({"pattern": "vivid", "reader": "A"}, "no pattern"),
        ({"cell_type": "alien", "reader": "A"}, "no cell type"),
        ({"pattern": "none"}, "needs a reader"),
    ):
        status, _, answer = call(
            ledger, "/corrections", {"action": "cell", "cell_id": number, **more}
        )
        assert status == 400
        assert said in json.loads(answer)["error"]


def test_a_large_body_and_a_wrong_kind_are_refused(ledger: Viewer) -> None:
    assert call(ledger, "/corrections", {"action": "cell"}, Content_Type="text/plain")[0] == 415
    with pytest.raises((ConnectionError, AssertionError)):
        assert call(ledger, "/corrections", b" " * (2 << 20))[0] == 200


def test_a_damaged_file_is_not_overwritten(ledger: Viewer) -> None:
    ledger.ledger.path.write_text("{")
    body = {"action": "region", "ring": [[0, 0], [9, 0], [9, 9]], "class": "tumour", "reader": "AB"}
    status, _, answer = call(ledger, "/corrections", body)
    assert status == 400
    assert "damaged" in json.loads(answer)["error"]
    assert ledger.ledger.path.read_text() == "{"


def test_other_is_the_last_class() -> None:
    assert OTHER == len(PATTERNS) == CLASSES - 1
