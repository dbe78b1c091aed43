"""What the viewer shows: pages, tiles, cells."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import numpy as np
from tornado.web import HTTPError

from her2path.core.schema import PATTERNS
from her2path.outputs.viewer import reading, saving
from her2path.outputs.viewer.desk import Viewer, finite
from her2path.outputs.viewer.doors import Handler, NotFoundHandler
from her2path.outputs.viewer.index import CLASSES, OTHER
from her2path.outputs.viewer.measures import SCORE
from her2path.outputs.viewer.page import asset, slide_page, worklist_page
from her2path.outputs.viewer.tiles import LAYERS, VIEWS

__all__ = ["ROUTES", "NotFoundHandler", "Viewer"]

_ASSETS = {
    **{f"{n}.js": "text/javascript"
       for n in ("viewer", "tiles", "shapes", "panels", "talk", "reading", "worklist")},
    "viewer.css": "text/css",
}  # fmt: skip


class StartHandler(Handler):
    """The worklist of a batch; the one slide of a run."""

    async def get(self) -> None:
        """Answer with HTML."""
        if self.viewer.batch is None:
            self.finish(slide_page(self.viewer, 0, await self.slide()))
        else:
            self.finish(await self.drawn(partial(worklist_page, self.viewer)))


class SlideHandler(Handler):
    """One slide's page."""

    async def get(self, number: str) -> None:
        """Answer with HTML."""
        self.finish(slide_page(self.viewer, int(number), await self.slide()))


class FileHandler(Handler):
    """Our own scripts and style."""

    def get(self, name: str) -> None:
        """Answer with a file of the list; there are no others."""
        if name not in _ASSETS:
            raise HTTPError(404, reason="No such file")
        self.set_header("Content-Type", f"{_ASSETS[name]}; charset=utf-8")
        self.finish(asset(name))


class TileHandler(Handler):
    """Tiles."""

    def prepare(self) -> None:
        """Let nobody see an overlay, or the stains that were measured, before he has read."""
        self.machine = self.path_kwargs.get("what") != "slide"  # type: ignore[misc]
        super().prepare()

    async def get(
        self,
        what: str,
        z: str,
        x: str,
        y: str,
        number: str | None = None,  # noqa: ARG002
    ) -> None:
        """Answer with a picture, or 404 off the pyramid."""
        tiles = (await self.slide()).tiles
        zoom, column, row = int(z), int(x), int(y)
        if zoom > tiles.plane.z_max or max(column, row) >= 2**zoom:
            raise HTTPError(404, reason="No such tile")
        if what in VIEWS:
            data = await self.drawn(partial(tiles.slide_tile, zoom, column, row, what))
            self.set_header("Content-Type", "image/jpeg")
        else:
            layers = [n for n in self.get_query_argument("layers", "").split(",") if n in LAYERS]
            shown = _shown(self.get_query_argument("patterns", ""))
            measure = self.get_query_argument("measure", SCORE)
            if measure not in tiles.measures.names:
                raise HTTPError(404, reason="No such measure")
            draw = partial(tiles.overlay_tile, zoom, column, row, layers, shown, measure)
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


class ThumbnailHandler(Handler):
    """The overview of the slide, as it is."""

    async def get(self, number: str | None = None) -> None:  # noqa: ARG002
        """Answer with a picture."""
        if not 0 <= self.number < len(self.viewer.items):
            raise HTTPError(404, reason="No such slide")
        path = self.viewer.items[self.number].out / "thumbnail.jpg"
        try:
            data = await self.drawn(path.read_bytes)
        except OSError as exc:
            raise HTTPError(404, reason="There is no overview") from exc
        self.set_header("Content-Type", "image/jpeg")
        self.set_header("Cache-Control", "private, max-age=3600")
        self.finish(data)


class LegendHandler(Handler):
    """What the colours of a measure mean."""

    machine: ClassVar[bool] = True

    async def get(self, number: str | None = None) -> None:  # noqa: ARG002
        """Answer with name, unit, range and colours."""
        measures = (await self.slide()).tiles.measures
        name = self.get_query_argument("measure", SCORE)
        if name not in measures.names:
            raise HTTPError(404, reason="No such measure")
        self.answer((await self.drawn(partial(measures.measure, name))).facts())


class AtHandler(Handler):
    """What lies under the pointer."""

    machine: ClassVar[bool] = True

    async def get(self, number: str | None = None) -> None:  # noqa: ARG002
        """Answer with the cell and the region at x, y (level-0 px), each or both null."""
        x, y = self.number_of("x"), self.number_of("y")
        view = await self.slide()
        row = view.tiles.index.at(x, y)
        cell = None if row is None else await self.drawn(partial(view.cell, row))
        region = view.tiles.region_at(x, y)
        if region is not None:
            region = {k: finite(v) for k, v in region.items()}
        self.answer({"cell": cell, "region": region})


class BorderlineHandler(Handler):
    """Cells near a cut-off: all of them, one by one."""

    machine: ClassVar[bool] = True

    async def get(self, number: str | None = None) -> None:  # noqa: ARG002
        """Answer with how many there are, and with the one at the place ``at``."""
        view = await self.slide()
        found = await self.drawn(lambda: view.borderline)
        try:
            place = int(self.get_query_argument("at", "0"))
        except ValueError as exc:
            raise HTTPError(400, reason="at is no number") from exc
        cell = found.facts(place % len(found)) if len(found) else None
        self.answer({"total": len(found), "at": place % max(1, len(found)), "cell": cell})


_SLIDE = r"(?:/slide/(?P<number>\d{1,6}))?"
_PLACE = r"(?P<z>\d{1,2})/(?P<x>\d{1,7})/(?P<y>\d{1,7})"
_TILE = rf"/tile/(?P<what>overlay|{'|'.join(VIEWS)})/{_PLACE}"
#: address -> what answers it
ROUTES: tuple[tuple[str, type[Handler]], ...] = (
    (r"/", StartHandler),
    (r"/slide/(?P<number>\d{1,6})", SlideHandler),
    (r"/files/(?P<name>[a-z.]+)", FileHandler),
    (_SLIDE + _TILE, TileHandler),
    (_SLIDE + r"/thumbnail", ThumbnailHandler),
    (_SLIDE + r"/legend", LegendHandler),
    (_SLIDE + r"/at", AtHandler),
    (_SLIDE + r"/borderline", BorderlineHandler),
    (_SLIDE + r"/corrections", saving.CorrectionsHandler),
    (_SLIDE + r"/import", saving.ImportHandler),
    (_SLIDE + r"/areas.geojson", saving.ExportHandler),
    (_SLIDE + r"/proposals", saving.ProposalsHandler),
    (_SLIDE + r"/rescore", saving.RescoreHandler),
    (_SLIDE + r"/read", reading.ReadHandler),
)
