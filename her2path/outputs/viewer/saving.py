"""What a reader changes: cells, areas, and the score that follows from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
from tornado.web import HTTPError

from her2path.outputs.viewer.desk import SlideView
from her2path.outputs.viewer.doors import Handler
from her2path.outputs.viewer.proposals import proposals
from her2path.outputs.viewer.rescoring import rescored

__all__ = ["CorrectionsHandler", "ExportHandler", "ImportHandler", "ProposalsHandler",
           "RescoreHandler"]  # fmt: skip

#: the largest file of areas that is taken in
MAX_IMPORT = 30 << 20


class _Saver(Handler):
    """Base of what changes a result: not in a blind session, whose readers share it."""

    machine: ClassVar[bool] = True

    def prepare(self) -> None:
        """Refuse to change a result while somebody reads it blind."""
        super().prepare()
        writes = self.request.method not in ("GET", "HEAD")
        if writes and self.viewer.log is not None:
            raise HTTPError(403, reason="Corrections are made without --read")


class CorrectionsHandler(_Saver):
    """Corrections: read, add, change, take back, put back."""

    _actions: ClassVar[tuple[str, ...]] = ("cell", "region", "change", "remove", "restore")

    async def get(self, number: str | None = None) -> None:  # noqa: ARG002
        """Answer with the features, each with its outlines on the plane that is shown."""
        view = await self.slide()
        await self.guarded(lambda: [_shown(f, view) for f in view.ledger.features()])

    async def post(self, number: str | None = None) -> None:  # noqa: ARG002
        """Do one of the actions."""
        body = self.body()
        if body.get("action") not in self._actions:
            raise HTTPError(400, reason="No such action")
        view = await self.slide()
        act: Callable[[SlideView, dict[str, Any]], Any] = getattr(self, f"_{body['action']}")
        await self.guarded(lambda: act(view, body))

    def _cell(self, view: SlideView, body: dict[str, Any]) -> Any:
        try:
            cell_id = int(str(body.get("cell_id")))
            row = int(view.tiles.index.rows_of(np.array([cell_id], np.int64))[0])
        except (ValueError, OverflowError) as exc:
            raise HTTPError(400, reason="No such cell") from exc
        if row < 0:
            raise HTTPError(400, reason="No such cell")
        made = view.ledger.correct_cell(
            view.cell(row), body.get("pattern"), body.get("cell_type"), body.get("reader")
        )
        view.show_corrected()
        return {**made, "version": view.version}

    def _region(self, view: SlideView, body: dict[str, Any]) -> Any:
        made = view.ledger.mark_region(
            body.get("ring"),
            body.get("class"),
            body.get("name"),
            body.get("reader"),
            view.tiles.planes,
        )
        return _shown(made, view)

    def _change(self, view: SlideView, body: dict[str, Any]) -> Any:
        return view.ledger.change_region(
            body.get("id"),
            body.get("rings"),
            body.get("class"),
            body.get("name"),
            body.get("reader"),
            view.tiles.planes,
        )

    def _remove(self, view: SlideView, body: dict[str, Any]) -> Any:
        gone = view.ledger.remove(body.get("id"))
        view.show_corrected()
        return {"removed": body.get("id"), "feature": gone, "version": view.version}

    def _restore(self, view: SlideView, body: dict[str, Any]) -> Any:
        feature = body.get("feature")
        view.ledger.put(feature if isinstance(feature, dict) else {})
        view.show_corrected()
        return {"version": view.version}


def _shown(feature: dict[str, Any], view: SlideView) -> dict[str, Any]:
    """Return a feature with its outlines, or its point, on the square plane that the page shows."""
    planes = view.tiles.planes
    geometry = feature.get("geometry") or {}
    kind, places = geometry.get("type"), geometry.get("coordinates") or []
    parts = {"Point": [[places]], "Polygon": places}.get(str(kind), [])
    if kind == "MultiPolygon":
        parts = [ring for part in places for ring in part]
    rings = [[[float(v) for v in planes.file.move(p[0], p[1], planes.square)] for p in ring]
             for ring in parts]  # fmt: skip
    return {**feature, "rings": [r[:-1] if kind != "Point" else r for r in rings]}


class ImportHandler(_Saver):
    """Areas that were drawn elsewhere, as in QuPath."""

    async def post(self, number: str | None = None) -> None:  # noqa: ARG002
        """Take in a GeoJSON text."""
        body = self.body(MAX_IMPORT)
        view = await self.slide()
        settings = view.store.settings().tumour
        take = partial(view.ledger.take_in, body.get("text"), body.get("reader"), settings)
        await self.guarded(lambda: {"taken": take()})


class ExportHandler(Handler):
    """The areas that readers drew, as QuPath reads them."""

    machine: ClassVar[bool] = True

    async def get(self, number: str | None = None) -> None:  # noqa: ARG002
        """Answer with GeoJSON: names and classes as they are, the file's level-0 px."""
        view = await self.slide()
        areas = [f for f in view.ledger.features()
                 if (f.get("properties") or {}).get("correction") == "region"]  # fmt: skip
        self.set_header("Content-Type", "application/geo+json")
        self.set_header("Content-Disposition", 'attachment; filename="areas.geojson"')
        self.finish(json.dumps({"type": "FeatureCollection", "features": areas}))


class ProposalsHandler(_Saver):
    """Tumour areas as the program sees them: to be accepted, changed or left."""

    async def get(self, number: str | None = None) -> None:  # noqa: ARG002
        """Answer with outlines (level-0 px of the plane that is shown) and their tumour cells."""
        view = await self.slide()
        self.answer(await self.drawn(partial(proposals, view.tiles)))


class RescoreHandler(_Saver):
    """The score again, with what the reader said."""

    async def post(self, number: str | None = None) -> None:  # noqa: ARG002
        """Rescore with what is saved; answer with the main figures before and after."""
        body = self.body()
        view = await self.slide()
        keep = body.get("corrections", True) is not False
        await self.guarded(partial(rescored, self.viewer, self.number, view, keep))
