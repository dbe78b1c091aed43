"""Who is let in, and how every answer is given: what all handlers share."""

from __future__ import annotations

import asyncio
import hmac
import json
import threading
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import urlsplit

from tornado.web import HTTPError, RequestHandler

from her2path.core.errors import Her2PathError
from her2path.outputs.viewer.desk import SlideView, Viewer

__all__ = ["MAX_BODY", "Handler", "NotFoundHandler"]

#: what is sent to be saved is no larger; files that are taken in may be
MAX_BODY = 1 << 20
_HOSTS = ("127.0.0.1", "localhost")
#: scripts and pictures from this server alone; styles in the page place marks on the slide
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; font-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Handler(RequestHandler):
    """Base: checks who asks, sets what a browser must know, answers errors in one line."""

    viewer: Viewer
    #: whether the answer holds anything that the program found: then a reader must have read first
    machine: ClassVar[bool] = False

    def initialize(self, viewer: Viewer) -> None:
        """Take what the handlers share."""
        self.viewer = viewer
        self._gone = threading.Event()

    def set_default_headers(self) -> None:
        """Say what the browser may do with an answer."""
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")
        self.clear_header("Server")

    def prepare(self) -> None:
        """Refuse another Host (DNS rebinding) and, for saving, another Origin or a wrong token.

        What the program found of a slide that is still to be read is refused to everybody.
        """
        if self.request.host not in {f"{h}:{self.viewer.port}" for h in _HOSTS}:
            raise HTTPError(403, reason="Host not allowed")
        if self.request.method not in ("GET", "HEAD"):
            self._check_writer()
        if self.machine and self.viewer.hides(self.number):
            raise HTTPError(403, reason="Give your score first")

    def _check_writer(self) -> None:
        origin = self.request.headers.get("Origin", "")
        if urlsplit(origin).netloc != self.request.host or not origin.startswith("http://"):
            raise HTTPError(403, reason="Origin not allowed")
        given = self.request.headers.get("X-Her2path-Token", "")
        if not hmac.compare_digest(given.encode(), self.viewer.token.encode()):
            raise HTTPError(403, reason="Token missing or wrong")

    @property
    def number(self) -> int:
        """Which slide of the worklist is meant; the first where the address names none."""
        return int(self.path_kwargs.get("number") or 0)

    async def slide(self) -> SlideView:
        """Return the slide that is meant, opened.

        Raises
        ------
        HTTPError
            404 where there is none.
        """
        try:
            view: SlideView = await self.drawn(lambda: self.viewer.at(self.number))
        except IndexError as exc:
            raise HTTPError(404, reason="No such slide") from exc
        except Her2PathError as exc:
            raise HTTPError(500, reason=header_safe(str(exc))) from exc
        return view

    def on_connection_close(self) -> None:
        """Note that nobody waits for the answer any more."""
        self._gone.set()

    def write_error(self, status_code: int, **kwargs: Any) -> None:  # noqa: ARG002
        """Answer with one line; never with a traceback."""
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"error": self._reason}))

    def answer(self, value: Any) -> None:
        """Answer with JSON."""
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(value, allow_nan=False))

    def number_of(self, name: str) -> float:
        """Return a finite number of the query."""
        try:
            value = float(self.get_query_argument(name))
        except ValueError:
            value = float("nan")
        if not abs(value) < 1e9:
            raise HTTPError(400, reason=f"{name} is no number")
        return value

    def body(self, most: int = MAX_BODY) -> dict[str, Any]:
        """Return what was sent, a JSON object.

        Raises
        ------
        HTTPError
            413, 415 or 400 for what is too large, of another kind, or no JSON object.
        """
        if len(self.request.body) > most:
            raise HTTPError(413, reason="Too large")
        if not self.request.headers.get("Content-Type", "").startswith("application/json"):
            raise HTTPError(415, reason="JSON only")
        try:
            body = json.loads(self.request.body)
        except (ValueError, RecursionError) as exc:
            raise HTTPError(400, reason="Not JSON") from exc
        if not isinstance(body, dict):
            raise HTTPError(400, reason="Not an object")
        return body

    async def drawn(self, draw: Callable[[], Any]) -> Any:
        """Run something slow beside the event loop; not at all where nobody waits any more."""

        def work() -> Any:
            if self._gone.is_set():
                raise HTTPError(499, reason="Gone")
            return draw()

        return await asyncio.get_running_loop().run_in_executor(self.viewer.pool, work)

    async def guarded(self, work: Callable[[], Any]) -> None:
        """Answer with what ``work`` returns; what it refuses is said in one line."""
        try:
            self.answer(await self.drawn(work))
        except Her2PathError as exc:
            raise HTTPError(400, reason=header_safe(str(exc))) from exc


def header_safe(text: str) -> str:
    """Return text as it may travel in a status line: no line breaks, nothing beyond Latin-1."""
    printable = "".join(c for c in text if c.isprintable())
    return printable.encode("latin-1", "replace").decode("latin-1")


class NotFoundHandler(Handler):
    """Everything else."""

    def prepare(self) -> None:
        """Answer 404, to the right host only."""
        super().prepare()
        raise HTTPError(404, reason="No such page")
