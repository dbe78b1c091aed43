"""A viewer's server in a thread of its own, for tests."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from her2path.outputs import viewer as viewer_package
from her2path.outputs.viewer.desk import Viewer


@contextmanager
def viewing(out: Path, slide: Path | None = None, **more: Any) -> Iterator[Viewer]:
    """Serve a run; yields the viewer, whose ``port`` is open."""
    ready, box = threading.Event(), {}

    async def run() -> None:
        server, box["viewer"] = viewer_package.make_server(out, slide, **more)
        box["stop"], box["loop"] = asyncio.Event(), asyncio.get_running_loop()
        ready.set()
        await box["stop"].wait()
        server.stop()
        await server.close_all_connections()
        box["viewer"].close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert ready.wait(60)
        yield box["viewer"]
    finally:
        box["loop"].call_soon_threadsafe(box["stop"].set)
        thread.join(30)


def call(
    viewer: Viewer, path: str, body: Any = None, method: str = "", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Ask the server; ``headers`` (with _ for -) replace the proper ones, and "" drops one."""
    host = f"127.0.0.1:{viewer.port}"
    sent = {"Host": host}
    if body is not None:
        sent |= {
            "Content-Type": "application/json",
            "Origin": f"http://{host}",
            "X-Her2path-Token": viewer.token,
        }
    sent |= {k.replace("_", "-"): v for k, v in headers.items()}
    sent = {k: v for k, v in sent.items() if v}
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=30)
    try:
        connection.request(method or ("GET" if data is None else "POST"), path, data, sent)
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()
    finally:
        connection.close()
