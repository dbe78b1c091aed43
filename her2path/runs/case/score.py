"""One slide, told as a methods section."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from her2path.cells import sensitivity
from her2path.core import _scratch
from her2path.core.errors import NotEvaluable, OutputError
from her2path.core.hiding import check_hideable, hidden_settings
from her2path.core.results import QcFlag, Result
from her2path.core.settings import Settings, load_settings
from her2path.io.annotations import Annotations
from her2path.io.slide import Slide, open_slide
from her2path.io.store import BatchStore, RunLock, RunStore
from her2path.runs.case import checks, passes, staged
from her2path.runs.case.areas import make_regions, tissue_grid
from her2path.runs.case.celltable import assign, light_cells, with_region_id
from her2path.runs.case.drawn import check_fits
from her2path.runs.case.facts import with_cnn
from her2path.runs.case.outcome import Evidence, Outcome, tissue_mm2
from her2path.runs.case.plan import Plan, Prepared, fingerprint, look, make_plan, measured_sha256
from her2path.runs.case.quality import Quality, assemble, judge
from her2path.runs.case.request import Progress, Request, finished_before
from her2path.runs.case.run import RunOptions, SlideResult
from her2path.runs.case.spiking import sensitivity_flags, spike
from her2path.runs.case.verdict import Verdict, verdict
from her2path.runs.stream import Stream
from her2path.scoring import guidelines
from her2path.scoring.calibration.slidewise import calibrate_slide, classified

if TYPE_CHECKING:
    import pyarrow as pa

    from her2path.runs.case.cnn_review import CnnReview

__all__ = ["Progress", "RunOptions", "SlideResult", "score_slide"]

log = logging.getLogger(__name__)


def score_slide(
    slide: str | Path,
    out: str | Path,
    settings: Settings | str | Path | None = None,
    annotations: str | Path | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
) -> SlideResult:
    """Score one slide.

    Parameters
    ----------
    slide : path
        Anything OpenSlide reads, or a TIFF, PNG or JPEG image.
    out : path
        Folder of the result; resumed when unfinished, left alone when complete.
    settings : Settings or path, optional
        Settings, or a YAML file.
    annotations : path, optional
        GeoJSON or XML annotations in level-0 pixels.
    options : RunOptions, optional
        Overwriting, report, pseudonymising, scheduler.
    progress : callable, optional
        Called with (stage, done, total, megapixels).

    Returns
    -------
    SlideResult
        Also when not evaluable: then ``status`` says so and ``qc.flags`` why.

    Raises
    ------
    Her2PathError
        Whatever `errors` lists; the exit code is an attribute.
    """
    chosen = settings if isinstance(settings, Settings) else load_settings(settings)
    guidelines.rule_set(chosen.score.guideline)
    how = options or RunOptions()
    if how.pseudonymise:
        check_hideable(chosen.score.guideline)
    if BatchStore(out).run_json.is_file():
        raise OutputError(f"{out} holds a batch", "Give -o another folder")
    store = RunStore(Path(out)).create()
    drawn = Path(annotations) if annotations else None
    request = Request(Path(slide), store, chosen, how, progress or _quiet, drawn)
    threads = how.threads or chosen.stream.workers
    with RunLock(store.out), Stream(threads, how.scheduler) as stream:
        return _result(request, stream)


def _quiet(stage: str, done: int, total: int, megapixels: float) -> None:
    """Report nothing."""


def _result(request: Request, stream: Stream) -> SlideResult:
    """Open the slide, do what is not done yet, and publish."""
    started, clock, store = datetime.now(UTC), time.monotonic(), request.store
    with open_slide(request.ref) as slide:
        info = slide.info
        annotations = request.read_annotations(info)
        drawn = annotations.sha256 if annotations is not None else None
        measured = measured_sha256(info, drawn, request.model_sha256(info))
        mark = fingerprint(measured, request.settings)
        outcome = Outcome(request.path, info, request.settings, request.options, annotations,
                          measured, mark, started, clock)  # fmt: skip
        if finished_before(request, outcome):
            return SlideResult(store.out, store.result(), fresh=False)
        if not store.staging.complete:
            _Run(request, outcome, slide, stream).work()
    if request.options.reports is not None:
        request.progress("reporting", 0, 1, 0.0)
        request.options.reports(store.staging.out)
    store.publish()
    return SlideResult(store.out, store.result())


class _Run:
    """One run of one slide, from the first look to the staged result."""

    def __init__(self, request: Request, outcome: Outcome, slide: Slide, stream: Stream) -> None:
        self.request, self.outcome, self.slide, self.stream = request, outcome, slide, stream
        self.settings, self.progress = request.settings, request.progress
        self.info = slide.info
        #: on the plane that cells are measured on; the outcome has them as drawn
        self.placed = self._placed(outcome.annotations)
        self.seen: Prepared | None = None
        self.plan: Plan | None = None
        self.quality: Quality | None = None

    def work(self) -> None:
        """Stage a result: the score, or why there is none."""
        try:
            self.progress("looking", 0, 1, 0.0)
            seen = self.seen = look(self.slide, self.settings, self.stream.local_threads)
            self._finish(self._evaluate(seen))
        except NotEvaluable as exc:
            log.info("not evaluable: %s", exc)
            if self.plan is not None and self.quality is not None:
                # the map shows why
                out = self.request.store.staging.create()
                staged.write_maps(self.plan, out, staged.no_cells(), self.quality)
            self._finish(self.outcome.not_evaluable(self.seen, exc, self.quality))

    def _evaluate(self, seen: Prepared) -> Result:
        """Tell the slide's story, once its tissue and stains are known."""
        plan = self.plan = self._planned(seen)
        self.progress("detection limit", 0, 1, 0.0)
        limit = spike(self.slide, plan, self.placed, self.stream.local_threads)
        done = self._read_cells(plan)
        bad = checks.unreadable_share(done, self.settings)
        quality, told = self._judged(plan, seen)
        cells = self._resolved(plan, quality)
        made = calibrate_slide(cells, self.placed, plan.optics.mpp, self.settings)
        cells = classified(cells, made.settings)
        flags = [*seen.flags, *checks.recognised(cells, self.settings, self._drawn)]
        flags += checks.cell_flags(cells, self.settings, bad, tissue_mm2(seen), told)
        regions, region_id = make_regions(
            cells, tissue_grid(quality), self.placed, plan.optics.mpp, made.settings
        )
        self.progress("scoring", 0, 1, 0.0)
        limit = sensitivity.with_limits(limit, made.settings.membrane)
        said = verdict(with_region_id(cells, region_id), regions, made.settings, limit)
        flags += sensitivity_flags(limit, said.score)
        review = self._reviewed_by_cnn(said, regions, plan)
        out = self.request.store.staging.create()
        staged.write_slide(out, plan, quality, cells, region_id, regions, self.info.planes, review)
        shown = made.settings.membrane
        staged.write_pictures(out, self.slide, said.tumour, shown, self.outcome.annotations)
        known = Evidence(done, cells, quality, made, limit, flags)
        result = self.outcome.complete(seen, known, said)
        return result if review is None else with_cnn(result, review)

    # -- the steps -----------------------------------------------------------------------------

    @property
    def _drawn(self) -> bool:
        """Whether a person has drawn the tumour."""
        return self.placed is not None and self.placed.tumour is not None

    def _placed(self, drawn: Annotations | None) -> Annotations | None:
        if drawn is None or not self.info.anisotropic:
            return drawn
        return drawn.moved(self.info.planes.file, self.info.planes.square)

    def _planned(self, seen: Prepared) -> Plan:
        """Lay blocks over the tissue; see that annotations and workers can do with them."""
        store, ref = self.request.store, self.request.ref
        incomplete = guidelines.incomplete_score(self.settings.score.guideline)
        plan = make_plan(ref, seen, self.settings, store.work, incomplete)
        if self.placed is not None:
            check_fits(self.placed, plan, self.info)
        self.stream.prove_paths([self.request.path.absolute()], store.out)
        return plan

    def _read_cells(self, plan: Plan) -> list[passes.BlockDone]:
        """Read the pixels, once."""
        total, finished, pixels = len(plan.blocks), 0, 0

        def tick(done: passes.BlockDone) -> None:
            nonlocal finished, pixels
            finished += 1
            pixels += done.pixels
            self.progress("reading cells", finished, total, pixels / 1e6)

        try:
            return self.stream.each(passes.measure_block, plan.reading_order, (plan,), tick)
        finally:
            _scratch.release()

    def _judged(self, plan: Plan, seen: Prepared) -> tuple[Quality, list[QcFlag]]:
        """Say what of the tissue is any good, and what that means for the slide."""
        quality = self.quality = assemble(plan, seen)
        return quality, judge(plan, seen, quality, self._drawn, self.slide)

    def _resolved(self, plan: Plan, quality: Quality) -> pa.Table:
        """Share lines out among neighbours; return the light columns of the cells that count."""
        total, finished = len(plan.blocks), 0

        def tick(_: int) -> None:
            nonlocal finished
            finished += 1
            self.progress("resolving membranes", finished, total, 0.0)

        self.stream.each(passes.resolve_block, plan.blocks, (plan, quality.left_out), tick)
        cells = assign(light_cells(plan), self.placed, self.settings)
        mend = "Look at the overlay, annotate the tumour, or lower score.min_cells"
        checks.need_tumour_cells(cells, self.settings, "were found", mend)
        return cells

    def _reviewed_by_cnn(self, said: Verdict, regions: pa.Table, plan: Plan) -> CnnReview | None:
        """Let the CNN look too, when asked; it never replaces the rule-based score."""
        if self.settings.cnn.model is None:
            return None
        from her2path.runs.case.cnn_review import review_by_cnn

        threads = self.request.options.threads or self.settings.stream.workers
        return review_by_cnn(self.slide.read, said.tumour, regions, plan.optics, self.settings.cnn,
                             said.score, self.progress, threads)  # fmt: skip

    def _finish(self, result: Result) -> None:
        """Stage overview, settings and result: from here on only publishing is left."""
        out = self.request.store.staging.create()
        staged.write_overview(out, self.slide, self.seen)
        settings = self.settings
        if self.request.options.pseudonymise:
            settings = hidden_settings(settings, result.cnn.model if result.cnn else None)
        out.write_settings(settings)
        out.write_result(result)
