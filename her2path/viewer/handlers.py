"""What the viewer answers, and to whom."""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import bokeh
import numpy as np
import pyarrow.compute as pc
from tornado.web import HTTPError, RequestHandler

from her2path.errors import Her2PathError, OutputError
from her2path.schema import PATTERNS
from her2path.store import RunStore
from her2path.viewer.index import CLASSES, OTHER
from her2path.viewer.ledger import Ledger
from her2path.viewer.page import asset, page, plot
from her2path.viewer.tiles import LAYERS, Tiles

__all__ = ["ROUTES", "NotFoundHandler", "Viewer"]

_HOSTS = ("127.0.0.1", "localhost")
_BOKEH = {"bokeh.min.js"}
_ASSETS = {"viewer.js": "text/javascript", "viewer.css": "text/css"}
#: scripts and pictures from this server alone; Bokeh writes its styles into the page
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; font-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Viewer:
    """What the handlers share: tiles, corrections, token.

    Parameters
    ----------
    store : RunStore
        A complete run.
    slide : path, optional
        The slide, when it has moved.
    """

    def __init__(self, store: RunStore, slide: Path | None = None) -> None:
        self.store = store
        self.result = store.result()
        self.tiles = Tiles(store, slide)
        self.ledger = Ledger(store)
        self.token = secrets.token_urlsafe(32)
        # drawing releases the interpreter lock for most of its time
        self.pool = ThreadPoolExecutor(4, thread_name_prefix="tiles")
        self.port = 0

    def close(self) -> None:
        """Stop drawing and close the slide."""
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.tiles.close()

    def cell(self, row: int) -> dict[str, Any]:
        """Return everything about one cell, by its row in the index; JSON values only."""
        index = self.tiles.index
        number = int(index.cells.cell_id[row])
        table = self.store.cells(where=pc.field("cell_id") == number)
        facts: dict[str, Any] = table.drop_columns(["outline", "nucleus_outline"]).to_pylist()[0]
        ring = index.outlines_px(np.array([row]))[0]
        # 64-bit whole numbers do not fit into JavaScript's
        return {**{k: _finite(v) for k, v in facts.items()}, "cell_id": str(number),
                "ring": np.round(ring, 1).tolist()}

    def borderline(self) -> list[dict[str, Any]]:
        """Return the cells near a cut-off: id, place, pattern."""
        try:
            rows = self.store.gallery().table.to_pylist()
        except OutputError:
            return []
        planes = self.tiles.planes
        found = []
        for r in rows:
            if r["borderline"]:
                x, y = planes.file.move(r["x_px"], r["y_px"], planes.square)
                found.append({"cell_id": str(r["cell_id"]), "x_px": x, "y_px": y,
                              "pattern": r["pattern"]})  # fmt: skip
        return found


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5) if np.isfinite(value) else None
    return value


class Handler(RequestHandler):
    """Base: checks who asks, sets what a browser must know, answers errors in one line."""

    viewer: Viewer

    def initialize(self, viewer: Viewer) -> None:
        """Take what the handlers share."""
        self.viewer = viewer

    def set_default_headers(self) -> None:
        """Say what the browser may do with an answer."""
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")
        self.clear_header("Server")

    def prepare(self) -> None:
        """Refuse another Host (DNS rebinding) and, for saving, another Origin or a wrong token."""
        if self.request.host not in {f"{h}:{self.viewer.port}" for h in _HOSTS}:
            raise HTTPError(403, reason="Host not allowed")
        if self.request.method in ("GET", "HEAD"):
            return
        origin = self.request.headers.get("Origin", "")
        if urlsplit(origin).netloc != self.request.host or not origin.startswith("http://"):
            raise HTTPError(403, reason="Origin not allowed")
        given = self.request.headers.get("X-Her2path-Token", "")
        if not hmac.compare_digest(given.encode(), self.viewer.token.encode()):
            raise HTTPError(403, reason="Token missing or wrong")

    def write_error(self, status_code: int, **kwargs: Any) -> None:  # noqa: ARG002
        """Answer with one line; never with a traceback."""
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"error": self._reason}))

    def answer(self, value: Any) -> None:
        """Answer with JSON."""
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(value, allow_nan=False))

    def number(self, name: str) -> float:
        """Return a finite number of the query."""
        try:
            value = float(self.get_query_argument(name))
        except ValueError:
            value = float("nan")
        if not abs(value) < 1e9:
            raise HTTPError(400, reason=f"{name} is no number")
        return value

    async def drawn(self, draw: Callable[[], Any]) -> Any:
        """Run something slow beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.viewer.pool, draw)


class PageHandler(Handler):
    """The page."""

    def get(self) -> None:
        """Answer with HTML."""
        tiles = self.viewer.tiles
        facts = (self.viewer.result, tiles.plane, self.viewer.token, tiles.why_no_slide)
        self.finish(page(*facts, list(LAYERS)))


class FileHandler(Handler):
    """Bokeh's script from its wheel, and our own script and style."""

    async def get(self, name: str) -> None:
        """Answer with a file of the list; there are no others."""
        if name in _BOKEH:
            path = Path(bokeh.__file__).parent / "server" / "static" / "js" / name
            text, kind = await self.drawn(path.read_bytes), "text/javascript"
        elif name in _ASSETS:
            text, kind = asset(name).encode(), _ASSETS[name]
        else:
            raise HTTPError(404, reason="No such file")
        self.set_header("Content-Type", f"{kind}; charset=utf-8")
        self.set_header("Cache-Control", "private, max-age=3600" if name in _BOKEH else "no-store")
        self.finish(text)


class PlotHandler(Handler):
    """The plot as Bokeh's JSON."""

    def get(self) -> None:
        """Answer with JSON."""
        self.answer(plot(self.viewer.tiles.plane))


class TileHandler(Handler):
    """Tiles."""

    async def get(self, what: str, z: str, x: str, y: str) -> None:
        """Answer with a picture, or 404 off the pyramid."""
        tiles = self.viewer.tiles
        zoom, column, row = int(z), int(x), int(y)
        if zoom > tiles.plane.z_max or max(column, row) >= 2**zoom:
            raise HTTPError(404, reason="No such tile")
        if what == "slide":
            data = await self.drawn(partial(tiles.slide_tile, zoom, column, row))
            self.set_header("Content-Type", "image/jpeg")
        else:
            layers = [n for n in self.get_query_argument("layers", "").split(",") if n in LAYERS]
            shown = _shown(self.get_query_argument("patterns", ""))
            draw = partial(tiles.overlay_tile, zoom, column, row, layers, shown)
            data = await self.drawn(draw)
            self.set_header("Content-Type", "image/png")
        self.set_header("Cache-Control", "private, max-age=300")
        self.finish(data)


def _shown(text: str) -> np.ndarray:
    """Return which classes a filter shows; an empty one shows all."""
    wanted = text.split(",") if text else [*PATTERNS, "other"]
    shown = np.zeros(CLASSES, bool)
    shown[: len(PATTERNS)] = [p in wanted for p in PATTERNS]
    shown[OTHER] = "other" in wanted
    return shown


class AtHandler(Handler):
    """What lies under the pointer."""

    async def get(self) -> None:
        """Answer with the cell and the region at x, y (level-0 px), each or both null."""
        x, y = self.number("x"), self.number("y")
        tiles = self.viewer.tiles
        row = tiles.index.at(x, y)
        cell = None if row is None else await self.drawn(partial(self.viewer.cell, row))
        region = tiles.region_at(x, y)
        if region is not None:
            region = {k: _finite(v) for k, v in region.items()}
        self.answer({"cell": cell, "region": region})


class BorderlineHandler(Handler):
    """Cells near a cut-off."""

    async def get(self) -> None:
        """Answer with a list."""
        self.answer(await self.drawn(self.viewer.borderline))


class CorrectionsHandler(Handler):
    """Corrections: read, add, take back."""

    _actions: ClassVar[tuple[str, ...]] = ("cell", "region", "remove")

    def get(self) -> None:
        """Answer with the features."""
        self._guarded(lambda: self.viewer.ledger.features())

    def post(self) -> None:
        """Add a correction (``cell``, ``region``) or take one back (``remove``)."""
        if not self.request.headers.get("Content-Type", "").startswith("application/json"):
            raise HTTPError(415, reason="JSON only")
        try:
            body = json.loads(self.request.body)
        except (ValueError, RecursionError) as exc:
            raise HTTPError(400, reason="Not JSON") from exc
        if not isinstance(body, dict) or body.get("action") not in self._actions:
            raise HTTPError(400, reason="No such action")
        self._guarded(partial(getattr(self, f"_{body['action']}"), body))

    def _guarded(self, work: Callable[[], Any]) -> None:
        try:
            self.answer(work())
        except Her2PathError as exc:
            raise HTTPError(400, reason=_header_safe(str(exc))) from exc

    def _cell(self, body: dict[str, Any]) -> Any:
        try:
            number = int(str(body.get("cell_id")))
            found = np.flatnonzero(self.viewer.tiles.index.cells.cell_id == number)
        except (ValueError, OverflowError) as exc:
            raise HTTPError(400, reason="No such cell") from exc
        if not len(found):
            raise HTTPError(400, reason="No such cell")
        cell = self.viewer.cell(int(found[0]))
        return self.viewer.ledger.correct_cell(
            cell, body.get("pattern"), body.get("cell_type"), body.get("reader")
        )

    def _region(self, body: dict[str, Any]) -> Any:
        return self.viewer.ledger.mark_region(
            body.get("ring"), body.get("class"), body.get("name"), body.get("reader"),
            self.viewer.tiles.planes,
        )

    def _remove(self, body: dict[str, Any]) -> Any:
        self.viewer.ledger.remove(body.get("id"))
        return {"removed": body.get("id")}


def _header_safe(text: str) -> str:
    # the reason travels in the status line: no line breaks, no letters beyond Latin-1
    printable = "".join(c for c in text if c.isprintable())
    return printable.encode("latin-1", "replace").decode("latin-1")


class NotFoundHandler(Handler):
    """Everything else."""

    def prepare(self) -> None:
        """Answer 404, to the right host only."""
        super().prepare()
        raise HTTPError(404, reason="No such page")


#: address -> what answers it
ROUTES: tuple[tuple[str, type[Handler]], ...] = (
    (r"/", PageHandler),
    (r"/files/([a-z.]+)", FileHandler),
    (r"/plot", PlotHandler),
    (r"/tile/(slide|overlay)/(\d{1,2})/(\d{1,7})/(\d{1,7})", TileHandler),
    (r"/at", AtHandler),
    (r"/borderline", BorderlineHandler),
    (r"/corrections", CorrectionsHandler),
)
