"""One slide, told as a methods section."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from her2path.cells import qc, sensitivity
from her2path.core import _scratch
from her2path.core.errors import AnnotationError, NotEvaluable, OutputError, SlideUnreadable
from her2path.core.flags import flag
from her2path.core.hiding import check_hideable, hidden_settings, run_mark
from her2path.core.results import (
    QcFlag,
    Result,
)
from her2path.core.settings import Settings, load_settings
from her2path.io.annotations import Annotations, SlideCentre, read_annotations
from her2path.io.slide import Slide, SlideRef, open_slide
from her2path.io.store import BatchStore, RunLock, RunStore, write_gallery, write_text
from her2path.runs.case import conclude, passes, pictures
from her2path.runs.case.drawn import check_fits, check_usable
from her2path.runs.case.facts import spread_over, with_cnn
from her2path.runs.case.outcome import Outcome, tissue_mm2
from her2path.runs.case.plan import (
    Plan,
    Prepared,
    fingerprint,
    look,
    make_plan,
    measured_sha256,
)
from her2path.runs.case.quality import Quality, assemble, judge, little_tumour
from her2path.runs.case.run import RunOptions, SlideResult
from her2path.runs.case.spiking import sensitivity_flags, spike
from her2path.runs.stream import Stream
from her2path.scoring import guidelines
from her2path.scoring.calibration.slidewise import calibrate_slide, classified

if TYPE_CHECKING:
    from her2path.runs.case.cnn_review import CnnReview

__all__ = ["Progress", "RunOptions", "SlideResult", "score_slide"]

log = logging.getLogger(__name__)

#: called with (stage, done, total, megapixels done)
Progress = Callable[[str, int, int, float], None]


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
    threads = how.threads or chosen.stream.workers
    with RunLock(store.out), Stream(threads, how.scheduler) as stream:
        run = _Run(Path(slide), store, chosen, how, progress or _quiet, annotations)
        return run.result(stream)


def _no_annotations() -> AnnotationError:
    return AnnotationError(
        "tumour.method is annotation, and no annotations were given", "Give --annotations FILE"
    )


def _quiet(stage: str, done: int, total: int, megapixels: float) -> None:
    """Report nothing."""


def _ref(path: Path, settings: Settings) -> SlideRef:
    s = settings.slide
    return SlideRef(
        str(path.absolute()),
        mpp=s.mpp,
        force_mpp=s.force_mpp,
        reader=s.reader,
        icc=s.icc,
        cache_mb=s.cache_mb,
    )


class _Run:
    """One run of one slide."""

    def __init__(
        self,
        path: Path,
        store: RunStore,
        settings: Settings,
        options: RunOptions,
        progress: Progress,
        annotations: str | Path | None,
    ) -> None:
        self.path, self.store, self.settings, self.options = path, store, settings, options
        self.progress = progress
        self.annotations_path = Path(annotations) if annotations else None
        self.started = datetime.now(UTC)
        self.clock = time.monotonic()
        self.plan: Plan | None = None
        self.quality: Quality | None = None

    def result(self, stream: Stream) -> SlideResult:
        ref = _ref(self.path, self.settings)
        with open_slide(ref) as slide:
            self.info = slide.info
            self.planes = slide.info.planes
            #: as drawn, in the file's own pixels, and on the plane that cells are measured on
            self.annotations = self._read_annotations()
            self.placed = self._placed()
            self.outcome = self._outcome()
            if self._is_complete():
                return SlideResult(self.store.out, self.store.result(), fresh=False)
            if not self.store.staging.complete:
                self._work(slide, ref, stream)
        if self.options.reports is not None:
            self.progress("reporting", 0, 1, 0.0)
            self.options.reports(self.store.staging.out)
        self.store.publish()
        return SlideResult(self.store.out, self.store.result())

    def _outcome(self) -> Outcome:
        drawn = self.annotations.sha256 if self.annotations is not None else None
        measured = measured_sha256(self.info, drawn, self._model_sha256())
        return Outcome(
            self.path,
            self.info,
            self.settings,
            self.options,
            self.annotations,
            measured,
            fingerprint(measured, self.settings),
            self.started,
            self.clock,
        )

    def _model_sha256(self) -> str | None:
        """Return the fingerprint of the CNN, where one is asked for; a slide too coarse has none.

        Such a slide is not evaluable, with or without a CNN: that is said first.
        """
        too_coarse = self.info.mpp > self.settings.qc.max_coarse_mpp
        if self.settings.cnn.model is None or too_coarse:
            return None
        from her2path.runs.case.cnn_review import model_sha256

        return model_sha256(self.settings.cnn, self.info.mpp)

    def _ready_the_model(self) -> None:
        """Fail before the slide is read where the CNN cannot run."""
        if not self.store.staging.complete and self.settings.cnn.model is not None:
            from her2path.runs.case.cnn_review import make_ready

            make_ready(self.settings.cnn)

    def _read_annotations(self) -> Annotations | None:
        if self.annotations_path is None:
            if self.settings.tumour.method == "annotation":
                raise _no_annotations()
            return None
        offset = (0, 0)
        if self.options.qupath_crop and self.info.file_bounds is not None:
            offset = (self.info.file_bounds.x0, self.info.file_bounds.y0)
        read = read_annotations(
            self.annotations_path, self.settings.tumour, offset, centre=self._centre()
        )
        check_usable(read, self.settings, self.annotations_path)
        return read.hidden() if self.options.pseudonymise else read

    def _centre(self) -> SlideCentre | None:
        size = self.info.file_width_px, self.info.file_height_px
        return SlideCentre.of(self.info.properties_safe, size)

    def _placed(self) -> Annotations | None:
        if self.annotations is None or not self.info.anisotropic:
            return self.annotations
        return self.annotations.moved(self.planes.file, self.planes.square)

    def _is_complete(self) -> bool:
        """Tell whether OUT holds this very run; prepare it for work otherwise.

        Raises
        ------
        OutputError
            Where it holds another run, and overwriting was not asked for.
        """
        store, overwrite = self.store, self.options.overwrite
        replaces = overwrite or self.options.redo_stale
        if store.complete and not overwrite:
            stored = store.result()
            if self.options.pseudonymise and stored.slide.path is not None and not replaces:
                self._refuse("a complete result with names,")
            # with names it is not what was asked for, though every figure is
            named = self.options.pseudonymise and stored.slide.path is not None
            corrected = stored.corrections_sha256
            same = fingerprint(self.outcome.measured, self.settings, corrected)
            if stored.fingerprint == same and not named:
                # a run killed after its result was in place may have left part files
                store.drop_work()
                return True
            if corrected is not None:
                # a reader's work is never replaced unasked, by no batch either
                self._refuse("a result that a reader has corrected,")
            if not replaces:
                self._refuse("a complete result")
        # before anything is noted down: without the CNN, say, OUT is still free
        self._ready_the_model()
        # the blocks' layout is part of what an unfinished run can go on with
        mark = run_mark(self.outcome.mark, self.settings, self.options.pseudonymise)
        known = store.fingerprint()
        if known is not None and known.get("run") != self.outcome.mark and not replaces:
            self._refuse("an unfinished run")
        if known != mark:
            store.drop_work()
            store.write_fingerprint(mark)
        return False

    def _refuse(self, what: str) -> None:
        raise OutputError(
            f"{self.store.out} holds {what} with other settings, of another slide or version",
            "Give another folder with -o, or --overwrite",
        )

    def _work(self, slide: Slide, ref: SlideRef, stream: Stream) -> None:
        seen: Prepared | None = None
        try:
            self.progress("looking", 0, 1, 0.0)
            seen = look(slide, self.settings, stream.local_threads)
            self._evaluate(slide, ref, seen, stream)
        except NotEvaluable as exc:
            log.info("not evaluable: %s", exc)
            self._thumbnail(slide, seen)
            if self.plan is not None and self.quality is not None:
                # the map shows why
                staged = self.store.staging.create()
                conclude.write_maps(self.plan, staged, conclude.no_cells(), self.quality)
            self._finish(self.outcome.not_evaluable(seen, exc, self.quality))

    def _evaluate(self, slide: Slide, ref: SlideRef, seen: Prepared, stream: Stream) -> None:
        incomplete = guidelines.incomplete_score(self.settings.score.guideline)
        plan = self.plan = make_plan(ref, seen, self.settings, self.store.work, incomplete)
        if self.placed is not None:
            check_fits(self.placed, plan, self.info)
        stream.prove_paths([self.path.absolute()], self.store.out)
        self.progress("detection limit", 0, 1, 0.0)
        limit = spike(slide, plan, self.placed, stream.local_threads)
        done = self._measure(plan, stream)
        bad = self._unreadable(done)
        quality = self.quality = assemble(plan, seen)
        drawn = self.placed is not None and self.placed.tumour is not None
        told = judge(plan, seen, quality, drawn, slide)
        self._resolve(plan, quality, stream)
        cells = conclude.assign(conclude.light_cells(plan), self.placed, self.settings)
        self._enough(cells)
        made = calibrate_slide(cells, self.placed, plan.optics.mpp, self.settings)
        cells = classified(cells, made.settings)
        flags = [*seen.flags, *self._recognised(cells), *self._qc(told, seen, bad, cells)]
        region_table, region_id = conclude.make_regions(
            cells, conclude.tissue_grid(quality), self.placed, plan.optics.mpp, made.settings
        )
        mine = conclude.is_tumour(cells)
        tumour = cells.append_column("region_id", pa.array(region_id, pa.int32())).filter(
            pa.array(mine)
        )
        self.progress("scoring", 0, 1, 0.0)
        limit = sensitivity.with_limits(limit, made.settings.membrane)
        verdict = conclude.conclude(tumour, region_table, int((~mine).sum()), made.settings, limit)
        flags += sensitivity_flags(limit, verdict.score)
        second = self._second_look(slide, tumour, region_table, plan, verdict)
        staged = self.store.staging.create()
        extra = None if second is None else spread_over(second.cells, mine)
        conclude.write_cells(plan, staged, cells, region_id, self.planes, extra)
        conclude.write_maps(plan, staged, cells, quality)
        staged.write_regions(
            region_table if second is None else conclude.beside(region_table, second.regions)
        )
        if second is not None and second.features is not None:
            staged.write_features(second.features)
        self._pictures(slide, tumour, staged, made.settings)
        self._thumbnail(slide, seen)
        followed = conclude.qc_figures(quality, cells)
        result = self.outcome.complete(plan, seen, flags, done, verdict, made, quality, followed)
        result = result.model_copy(update={"sensitivity": limit})
        self._finish(result if second is None else with_cnn(result, second))

    def _second_look(
        self,
        slide: Slide,
        tumour: pa.Table,
        region_table: pa.Table,
        plan: Plan,
        verdict: conclude.Verdict,
    ) -> CnnReview | None:
        """Let the CNN look too, when asked; it never replaces the rule-based score."""
        if self.settings.cnn.model is None:
            return None
        from her2path.runs.case.cnn_review import review_by_cnn

        return review_by_cnn(
            slide.read,
            tumour,
            region_table,
            plan.optics,
            self.settings.cnn,
            verdict.score,
            self.progress,
            self.options.threads or self.settings.stream.workers,
        )

    def _measure(self, plan: Plan, stream: Stream) -> list[passes.BlockDone]:
        total, finished, pixels = len(plan.blocks), 0, 0

        def tick(done: passes.BlockDone) -> None:
            nonlocal finished, pixels
            finished += 1
            pixels += done.pixels
            self.progress("reading cells", finished, total, pixels / 1e6)

        try:
            return stream.each(passes.measure_block, plan.reading_order, (plan,), tick)
        finally:
            _scratch.release()

    def _resolve(self, plan: Plan, quality: Quality, stream: Stream) -> None:
        total, finished = len(plan.blocks), 0

        def tick(_: int) -> None:
            nonlocal finished
            finished += 1
            self.progress("resolving membranes", finished, total, 0.0)

        stream.each(passes.resolve_block, plan.blocks, (plan, quality.left_out), tick)

    def _unreadable(self, done: list[passes.BlockDone]) -> float:
        """Return the share of the tissue that could not be read.

        Raises
        ------
        SlideUnreadable
            When it is above ``slide.max_bad_tissue``.
        """
        bad = sum(d.bad_px for d in done) / max(1, sum(d.tissue_px for d in done))
        if bad > self.settings.slide.max_bad_tissue:
            raise SlideUnreadable(
                f"{bad:.1%} of the tissue cannot be read: tiles are damaged",
                "Copy or scan the slide again, or raise slide.max_bad_tissue",
            )
        return bad

    def _qc(self, told: list[QcFlag], seen: Prepared, bad: float, cells: pa.Table) -> list[QcFlag]:
        tumour = conclude.is_tumour(cells)
        nuclei = cells.column("nucleus_hematoxylin_od").to_numpy()
        background = cells.column("cytoplasm_od").to_numpy()[~tumour]
        found = qc.assess(
            self.settings.qc,
            bad_fraction=bad,
            tissue_area_mm2=tissue_mm2(seen),
            nucleus_h_od=float(np.median(nuclei)),
            background_dab_od=float(np.median(background)) if len(background) else None,
            known=tuple(told),
        )
        return [*found, *little_tumour(int(tumour.sum()), self.settings)]

    def _enough(self, cells: pa.Table) -> None:
        n = int(conclude.is_tumour(cells).sum())
        least = self.settings.score.min_cells
        if n < least:
            raise NotEvaluable(
                f"{n} tumour cells were found, and {least} are needed",
                "Look at the overlay, annotate the tumour, or lower score.min_cells",
                code="FEW_TUMOUR_CELLS",
            )

    def _recognised(self, cells: pa.Table) -> list[QcFlag]:
        """Say where too much of what is counted is doubtful; nothing where a person drew it.

        Raises
        ------
        NotEvaluable
            Where hardly anything is certain.
        """
        limits, method = self.settings.qc, self.settings.tumour.method
        drawn = self.annotations is not None and self.annotations.tumour is not None
        if method == "all" or (drawn and method != "morphology"):
            return []
        share = conclude.certain_share(cells, limits.certain_from)
        if share < limits.least_certain_share:
            raise NotEvaluable(
                f"tumour was not recognised: only {share:.0%} of the cells counted are surely "
                "tumour cells",
                "Look at the overlay, annotate the tumour, or lower qc.least_certain_share",
                code="TUMOUR_NOT_RECOGNISED",
            )
        if share < limits.certain_share:
            return [flag("TUMOUR_NOT_RECOGNISED", f"Surely tumour cells: {share:.0%}.")]
        return []

    def _pictures(
        self, slide: Slide, tumour: pa.Table, staged: RunStore, settings: Settings
    ) -> None:
        m = settings.membrane
        shown = pictures.gallery(slide, tumour, m.cutoffs, m.measure, m.complete_at)
        table = conclude.in_file_px(shown.table, self.planes)
        write_gallery(staged.gallery_path, shown.patches, table)
        if self.annotations is not None:
            write_text(staged.annotations_path, self.annotations.geojson())

    def _thumbnail(self, slide: Slide, seen: Prepared | None) -> None:
        overview = seen.overview if seen else slide.overview(pictures.THUMBNAIL_PX)[0]
        small, _ = pictures.thumbnail(overview)
        self.store.staging.create().write_thumbnail(small)

    def _finish(self, result: Result) -> None:
        """Stage the settings and the result: from here on only publishing is left."""
        staged = self.store.staging.create()
        settings = self.settings
        if self.options.pseudonymise:
            settings = hidden_settings(settings, result.cnn.model if result.cnn else None)
        staged.write_settings(settings)
        staged.write_result(result)
