"""The server: loopback only, and nothing on it but the viewer."""

from __future__ import annotations

import asyncio
import logging
import socket
import webbrowser
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tornado.httpserver import HTTPServer
from tornado.web import Application

from her2path.core.errors import OutputError
from her2path.outputs.viewer.desk import Viewer
from her2path.outputs.viewer.doors import NotFoundHandler
from her2path.outputs.viewer.handlers import ROUTES

__all__ = ["make_server", "serve"]

log = logging.getLogger(__name__)
LOOPBACK = "127.0.0.1"
#: files of areas that are taken in; everything else is held to `doors.MAX_BODY`
_MAX_BODY = 32 << 20


def application(viewer: Viewer) -> Application:
    """Return the web application."""
    shared = {"viewer": viewer}
    return Application(
        [(address, handler, shared) for address, handler in ROUTES],
        default_handler_class=NotFoundHandler,
        default_handler_args=shared,
        log_function=lambda handler: log.debug("%s %s", handler.get_status(), handler.request.uri),
    )


def make_server(
    out: str | Path, slide: str | Path | None = None, port: int = 0, reader: str | None = None,
    order: str | None = None, again: bool = False,
) -> tuple[HTTPServer, Viewer]:  # fmt: skip
    """Start listening on loopback; the caller runs the event loop.

    Parameters
    ----------
    out : path
        Folder of a complete run, or of a batch.
    slide : path, optional
        The slide, when it has moved.
    port : int
        0 takes a free one; ``viewer.port`` tells which.
    reader : str, optional
        Who reads blind.
    order : {"random", "given"}, optional
        Of that reader's worklist, where it is begun.
    again : bool
        Begin that worklist once more.

    Returns
    -------
    server, viewer
        Stop the one and close the other.

    Raises
    ------
    OutputError
        Without a complete run, or where the port is taken.
    UsageError
        For a reader or an order that cannot be.
    """
    viewer = Viewer(out, Path(slide) if slide is not None else None, reader, order, again)
    server = HTTPServer(application(viewer), max_buffer_size=_MAX_BODY)
    try:
        door = socket.create_server((LOOPBACK, port))
    except OSError as exc:
        viewer.close()
        raise OutputError(
            f"port {port} cannot be opened ({exc.strerror})", "Give another --port, or 0"
        ) from exc
    door.setblocking(False)
    server.add_socket(door)
    viewer.port = door.getsockname()[1]
    return server, viewer


def serve(
    out: str | Path,
    slide: str | Path | None = None,
    port: int = 0,
    open_browser: bool = True,
    started: Callable[[str], None] | None = None,
    reader: str | None = None,
    order: str | None = None,
    again: bool = False,
) -> None:
    """Show a run in a browser until interrupted.

    Parameters
    ----------
    out, slide, port, reader, order, again
        As in `make_server`.
    open_browser : bool
        Open the page in the user's browser.
    started : callable, optional
        Called with the page's address once it can be opened.

    Raises
    ------
    OutputError
        Without a complete run, or where the port is taken.
    """
    made = partial(make_server, out, slide, port, reader, order, again)
    asyncio.run(_serve(made, open_browser, started))


async def _serve(
    made: Callable[[], tuple[HTTPServer, Viewer]],
    open_browser: bool,
    started: Callable[[str], None] | None,
) -> None:
    server, viewer = made()
    address = f"http://{LOOPBACK}:{viewer.port}/"
    log.info("viewing %s at %s", viewer.out, address)
    try:
        if started is not None:
            started(address)
        if open_browser:
            webbrowser.open(address)
        await asyncio.Event().wait()
    finally:
        server.stop()
        await server.close_all_connections()
        viewer.close()
