"""The parent of the child processes: gives out jobs, watches, buries and replaces.

A child that crashes or hangs costs the job it was at and nothing else. When the children together
take more memory than the budget, the largest is ended and its job is done again later, alone,
with the whole budget; only what is too large even then fails.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import psutil

from her2path.runs.cohort.child import Failure, Job, serve

__all__ = ["Budget", "Outcome", "Pool"]

#: what one child takes, MiB: the program, its caches, one block and the cells of a large slide
#: (584 measured on 100 Mpx)
CHILD_MB = 1000
#: what every further thread takes, MiB: one block of 4096 px with its planes (235 measured)
THREAD_MB = 500
#: seconds between looks at time and memory
LOOK_S = 0.25
#: longest wait for a child that was told to end
FAREWELL_S = 5.0
#: longest wait for a process to start, seconds
STARTING_S = 120.0
STARTING = "starting"

Tell = Callable[[int, str, int, int, float], None]


@dataclass(frozen=True)
class Budget:
    """What a batch may take.

    Parameters
    ----------
    workers : int
        Threads in all.
    memory_mb : float
        Memory of all children together, MiB.
    timeout_s : float
        Longest time for one job, seconds.
    """

    workers: int
    memory_mb: float
    timeout_s: float

    def children(self, jobs: int) -> int:
        """Return how many processes keep the machine busy: one job each while there are many."""
        return max(1, min(self.workers, jobs, int(self.memory_mb // CHILD_MB)))

    def threads(self, busy: int) -> int:
        """Return the threads of a job when so many are worked on: a lone one gets all.

        Fewer where a thread's block would not fit into the job's share of the memory.
        """
        share_mb = self.memory_mb / max(1, busy)
        fitting = 1 + int(max(0.0, share_mb - CHILD_MB) // THREAD_MB)
        return max(1, min(self.workers // max(1, busy), fitting))


@dataclass(frozen=True)
class Outcome:
    """What became of one job: its facts, or how it fell."""

    index: int
    seconds: float
    facts: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None

    @property
    def ok(self) -> bool:
        """Whether the job was done."""
        return self.failure is None


class _Child:
    """One child process and the job it is at."""

    def __init__(self, quiet: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, quiet), daemon=True)
        self.process.start()
        theirs.close()
        self.job: Job | None = None
        self.alone = False
        self.stage = STARTING
        self.since = 0.0

    def give(self, job: Job, alone: bool) -> None:
        self.job, self.alone, self.stage = job, alone, STARTING
        self.since = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            # a child that has died is found by its watcher
            self.pipe.send(job)

    def own_mb(self) -> float:
        """Return the memory that is the child's own, MiB: mapped files can be given back."""
        try:
            found = psutil.Process(self.process.pid).memory_info()
        except psutil.Error:
            return 0.0
        return float(found.rss - getattr(found, "shared", 0)) / (1 << 20)

    def late(self, limit_s: float) -> bool:
        """Tell whether the job takes too long; the process itself may take its time to start."""
        allowed = limit_s + (STARTING_S if self.stage == STARTING else 0.0)
        return self.job is not None and time.monotonic() - self.since > allowed

    def reap(self) -> None:
        self.process.kill()
        self.process.join(FAREWELL_S)
        self.pipe.close()


class Pool:
    """Children that do jobs; a context manager.

    Parameters
    ----------
    budget : Budget
        Threads, memory and time.
    tell : callable
        Called with (index, stage, done, total, megapixels) as jobs go on.
    quiet : bool
        Whether what decoders write to the terminal by themselves is thrown away.
    """

    def __init__(self, budget: Budget, tell: Tell, quiet: bool = True) -> None:
        self.budget, self.tell, self.quiet = budget, tell, quiet
        self.peak_mb = 0.0
        self._children: list[_Child] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        for child in self._children:
            child.reap()
        self._children.clear()

    def run(self, jobs: list[Job]) -> Iterator[Outcome]:
        """Do all jobs; yield each outcome as it comes."""
        waiting, alone = deque(jobs), deque[Job]()
        while waiting or alone or self._busy():
            self._hand_out(waiting, alone)
            yield from self._look()
            yield from self._memory(alone)

    def _busy(self) -> list[_Child]:
        return [c for c in self._children if c.job is not None]

    def _hand_out(self, waiting: deque[Job], alone: deque[Job]) -> None:
        busy = len(self._busy())
        if not waiting:
            if alone and not busy:
                self._idle().give(alone.popleft().with_threads(self.budget.threads(1)), alone=True)
            return
        most = self.budget.children(len(waiting) + busy)
        while waiting and busy < most:
            # the last few jobs share the threads that nobody else needs any more
            sharing = min(most, busy + len(waiting))
            job = waiting.popleft().with_threads(self.budget.threads(sharing))
            self._idle().give(job, alone=False)
            busy += 1

    def _idle(self) -> _Child:
        for child in [c for c in self._children if c.job is None]:
            if child.process.is_alive():
                return child
            self._remove(child)
        child = _Child(self.quiet)
        self._children.append(child)
        return child

    def _look(self) -> Iterator[Outcome]:
        busy = self._busy()
        handles: list[Any] = [c.pipe for c in busy] + [c.process.sentinel for c in busy]
        ready = connection.wait(handles, timeout=LOOK_S)
        for child in busy:
            gone = not child.process.is_alive()
            if child.pipe in ready or gone:
                yield from self._hear(child)
            if child.job is not None and gone:
                yield self._lost(child, _how_it_died(child.process.exitcode))
            if child.job is not None and child.late(self.budget.timeout_s):
                limit = f"{self.budget.timeout_s:g} s"
                yield self._lost(child, f"took longer than {limit} (stream.timeout_s)")

    def _hear(self, child: _Child) -> Iterator[Outcome]:
        while child.job is not None and _has_word(child.pipe):
            try:
                word, index, *rest = child.pipe.recv()
            except (EOFError, OSError):
                return
            if word == "progress":
                if child.stage == STARTING:
                    child.since = time.monotonic()
                child.stage = rest[0]
                self.tell(index, *rest)
                continue
            seconds, index = time.monotonic() - child.since, child.job.index
            child.job = None
            if word == "done":
                yield Outcome(index, seconds, facts=rest[0])
            else:
                yield Outcome(index, seconds, failure=rest[0])

    def _memory(self, alone: deque[Job]) -> Iterator[Outcome]:
        """Keep all children together within the budget."""
        sizes = {c: c.own_mb() for c in self._children}
        total = sum(sizes.values())
        self.peak_mb = max(self.peak_mb, total)
        if total <= self.budget.memory_mb:
            return
        idle = [c for c in self._children if c.job is None]
        for child in idle:
            self._remove(child)
        busy = self._busy()
        if idle or not busy:
            return
        largest = max(busy, key=lambda c: sizes[c])
        if len(busy) == 1 or largest.alone:
            budget = f"{self.budget.memory_mb:.0f} MiB"
            yield self._lost(largest, f"took more than {budget} of memory (stream.memory_mb)")
            return
        if largest.job is not None:
            alone.append(largest.job)
            self.tell(largest.job.index, "waiting for memory", 0, 1, 0.0)
        self._remove(largest)

    def _remove(self, child: _Child) -> None:
        child.reap()
        self._children.remove(child)

    def _lost(self, child: _Child, reason: str) -> Outcome:
        """Bury a child; the next job gets a new one."""
        index = child.job.index if child.job is not None else -1
        seconds = time.monotonic() - child.since
        self._remove(child)
        return Outcome(index, seconds, failure=Failure(child.stage, reason))


def _has_word(pipe: Connection) -> bool:
    try:
        return pipe.poll()
    except (BrokenPipeError, EOFError, OSError):
        return False


def _how_it_died(code: int | None) -> str:
    if code is not None and code < 0:
        import signal

        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = str(-code)
        return f"the reading process was ended by {name}"
    return f"the reading process ended with code {code}"
