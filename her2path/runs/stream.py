"""Motion: blocks through a function, a bounded number at a time. dask lives here alone.

Threads by default (`dask.threaded` keeps just as many tasks in flight as there are workers); with
the address of a running scheduler the same tasks go to its workers, a bounded window in flight.
A task returns a few hundred bytes; what it makes it writes itself.
"""

from __future__ import annotations

import errno
import logging
import os
import pickle
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from her2path.core._optional import require
from her2path.core.errors import DiskFull, Her2PathError, InputError, UsageError, WorkerCannotSee

__all__ = ["Stream", "default_workers"]

log = logging.getLogger(__name__)
#: tasks in flight for each thread of a cluster: enough to hide the way, few enough to stay bounded
WINDOW = 3
#: how often a task is tried again when its worker died under it
RETRIES = 3

Done = Callable[[Any], None]


def default_workers() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _one_thread_each() -> None:
    """Keep libraries from starting threads of their own inside a worker thread."""
    import cv2

    if cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)


def _run(fn: Callable[..., Any], common: tuple[Any, ...], item: Any) -> Any:
    """Run one task; a full disk becomes `DiskFull` wherever it happens."""
    _one_thread_each()
    try:
        return fn(*common, item)
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"no space left on the disk ({exc.filename or 'output'})",
                "Free some space and run the same command again: what is done is kept",
            ) from exc
        raise


class Stream:
    """Where tasks run.

    Parameters
    ----------
    workers : int
        Threads; 0 takes as many as there are processors.
    scheduler : str, optional
        Address of a running dask scheduler, as ``tcp://host:8786``.

    Raises
    ------
    InputError
        When the scheduler does not answer.
    """

    def __init__(self, workers: int = 0, scheduler: str | None = None) -> None:
        self.workers = workers or default_workers()
        self.scheduler = scheduler
        self._client: Any = None
        self._pool: ThreadPoolExecutor | None = None
        self._pid = 0
        if scheduler:
            self._client = _connect(scheduler)
            self.workers = max(1, sum(self._client.nthreads().values()))

    @property
    def local_threads(self) -> int:
        """How many threads may work in this process, beside what a scheduler runs."""
        return self.workers if self._client is None else default_workers()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster, and end the threads: what they are at is waited for."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._pool is not None and self._pid == os.getpid():
            self._pool.shutdown(cancel_futures=True)
        self._pool = None

    def _threads(self) -> ThreadPoolExecutor:
        """Return this stream's own threads.

        dask's are kept for the process, and a forked child would wait for those of its parent.
        """
        if self._pool is None or self._pid != os.getpid():
            self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="her2path")
            self._pid = os.getpid()
        return self._pool

    def each(
        self,
        fn: Callable[..., Any],
        items: Sequence[Any],
        common: tuple[Any, ...] = (),
        done: Done | None = None,
    ) -> list[Any]:
        """Call ``fn(*common, item)`` for every item.

        Parameters
        ----------
        fn : callable
            A module-level function; everything it takes and returns can be pickled.
        items : sequence
            One task each.
        common : tuple
            First arguments of every task.
        done : callable, optional
            Called in this thread or a scheduler thread with each result, in order of completion.

        Returns
        -------
        list
            Results in the order of ``items``.
        """
        if not items:
            return []
        if self._client is not None:
            return self._each_remote(fn, items, common, done)
        return self._each_local(fn, items, common, done)

    def _each_local(
        self,
        fn: Callable[..., Any],
        items: Sequence[Any],
        common: tuple[Any, ...],
        done: Done | None,
    ) -> list[Any]:
        import dask
        from dask.callbacks import Callback

        def posttask(key: Any, result: Any, *_: Any) -> None:
            if done is not None and str(key).startswith("her2path-"):
                done(result)

        # dask takes equal tasks by their names, last one first
        names = [f"{len(items) - i:08d}" for i in range(len(items))]
        shared = [
            dask.delayed(_Task(fn, common, item), name=f"task-{name}", traverse=False)
            for name, item in zip(names, items, strict=True)
        ]
        calls = [t(dask_key_name=f"her2path-{name}") for name, t in zip(names, shared, strict=True)]
        with Callback(posttask=posttask):
            return list(
                dask.compute(
                    *calls, scheduler="threads", pool=self._threads(), optimize_graph=False
                )
            )

    def _each_remote(
        self,
        fn: Callable[..., Any],
        items: Sequence[Any],
        common: tuple[Any, ...],
        done: Done | None,
    ) -> list[Any]:
        distributed = require("distributed", "--scheduler")
        client = self._client
        # a task, not scattered data: what is scattered is gone for good with its last worker
        packed = zlib.compress(pickle.dumps(common), 1)
        handed = client.submit(_unpacked, packed, pure=False, retries=RETRIES)
        results: list[Any] = [None] * len(items)
        waiting = iter(enumerate(items))
        place: dict[Any, int] = {}

        def submit(n: int) -> list[Any]:
            new = []
            for index, item in _take(waiting, n):
                future = client.submit(_run, fn, handed, item, pure=False, retries=RETRIES)
                place[future.key] = index
                new.append(future)
            return new

        pool = distributed.as_completed(submit(self.workers * WINDOW), loop=client.loop)
        for future in pool:
            index = place.pop(future.key)
            results[index] = _outcome(future)
            if done is not None:
                done(results[index])
            future.release()
            for new in submit(1):
                pool.add(new)
        return results

    def prove_paths(self, readable: Iterable[Path], writable: Path) -> None:
        """Make sure that every worker sees the slides and can write to OUT.

        Raises
        ------
        WorkerCannotSee
            Names the worker and the path.
        """
        if self._client is None:
            return
        probe = writable / f".probe-{os.getpid()}"
        probe.write_text("probe")
        try:
            answers = self._client.run(_probe, [str(p) for p in readable], str(probe))
        finally:
            for left in writable.glob(f"{probe.name}*"):
                left.unlink(missing_ok=True)
        for worker, missing in sorted(answers.items()):
            if missing:
                raise WorkerCannotSee(
                    f"the worker {worker} cannot use {missing}",
                    "Slides and OUT must be visible under one path on every worker",
                )


def _unpacked(packed: bytes) -> tuple[Any, ...]:
    """Return what all tasks have in common; done once a worker."""
    common: tuple[Any, ...] = pickle.loads(zlib.decompress(packed))
    return common


class _Task:
    """A callable without arguments, so that dask never looks inside the items."""

    def __init__(self, fn: Callable[..., Any], common: tuple[Any, ...], item: Any) -> None:
        self.fn, self.common, self.item = fn, common, item

    def __call__(self) -> Any:
        return _run(self.fn, self.common, self.item)


def _take(source: Any, n: int) -> list[Any]:
    out = []
    for _ in range(n):
        try:
            out.append(next(source))
        except StopIteration:
            break
    return out


def _connect(address: str) -> Any:
    distributed = require("distributed", "--scheduler")
    security = distributed.security.Security()
    if address.startswith("tls:") and not security.get_connection_args("client").get("ssl_context"):
        raise UsageError(
            f"the scheduler at {address} asks for TLS, and no certificates are set up",
            "Point DASK_CONFIG at a configuration with distributed.comm.tls, as docs/batch.md says",
        )
    try:
        return distributed.Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError, TimeoutError) as exc:
        raise InputError(
            f"no dask scheduler answers at {address}", "Start one, or check the address"
        ) from exc


def _outcome(future: Any) -> Any:
    distributed = require("distributed", "--scheduler")
    try:
        return future.result()
    except Her2PathError:
        raise
    except distributed.scheduler.KilledWorker as exc:
        raise InputError(
            "workers died again and again on one block", "Look at the workers' logs and memory"
        ) from exc


def _probe(readable: list[str], probe: str) -> str | None:
    for path in readable:
        if not Path(path).exists():
            return path
    if not Path(probe).is_file():
        return str(Path(probe).parent)
    mine = Path(f"{probe}-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        mine.write_text("probe")
    except OSError:
        return str(mine.parent)
    return None
