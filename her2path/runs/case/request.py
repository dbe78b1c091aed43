"""What one run was asked for, and whether OUT already holds its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from her2path.core.errors import AnnotationError, OutputError
from her2path.core.hiding import run_mark
from her2path.core.results import Result
from her2path.core.settings import Settings
from her2path.io.annotations import Annotations, SlideCentre, read_annotations
from her2path.io.slide import SlideInfo, SlideRef
from her2path.io.store import RunStore
from her2path.runs.case.drawn import check_usable
from her2path.runs.case.outcome import Outcome
from her2path.runs.case.plan import fingerprint
from her2path.runs.case.run import RunOptions

__all__ = ["Progress", "Request", "finished_before"]

#: called with (stage, done, total, megapixels done)
Progress = Callable[[str, int, int, float], None]


@dataclass(frozen=True)
class Request:
    """One slide, one folder, settings and options; nothing of it is measured."""

    path: Path
    store: RunStore
    settings: Settings
    options: RunOptions
    progress: Progress
    annotations: Path | None

    @property
    def ref(self) -> SlideRef:
        """How the slide is opened, by every worker alike."""
        s = self.settings.slide
        return SlideRef(
            str(self.path.absolute()),
            mpp=s.mpp,
            force_mpp=s.force_mpp,
            reader=s.reader,
            icc=s.icc,
            cache_mb=s.cache_mb,
        )

    @property
    def replaces(self) -> bool:
        """Whether another run's result may be replaced."""
        return self.options.overwrite or self.options.redo_stale

    def read_annotations(self, info: SlideInfo) -> Annotations | None:
        """Read the annotations, in the file's own pixels.

        Raises
        ------
        AnnotationError
            Where they are needed and missing, unreadable, or mark no tumour.
        """
        if self.annotations is None:
            if self.settings.tumour.method == "annotation":
                raise AnnotationError(
                    "tumour.method is annotation, and no annotations were given",
                    "Give --annotations FILE",
                )
            return None
        offset = (0, 0)
        if self.options.qupath_crop and info.file_bounds is not None:
            offset = (info.file_bounds.x0, info.file_bounds.y0)
        size = info.file_width_px, info.file_height_px
        centre = SlideCentre.of(info.properties_safe, size)
        read = read_annotations(self.annotations, self.settings.tumour, offset, centre=centre)
        check_usable(read, self.settings, self.annotations)
        return read.hidden() if self.options.pseudonymise else read

    def model_sha256(self, info: SlideInfo) -> str | None:
        """Return the fingerprint of the CNN, where one is asked for; a slide too coarse has none.

        Such a slide is not evaluable, with or without a CNN: that is said first.
        """
        too_coarse = info.mpp > self.settings.qc.max_coarse_mpp
        if self.settings.cnn.model is None or too_coarse:
            return None
        from her2path.runs.case.cnn_review import model_sha256

        return model_sha256(self.settings.cnn, info.mpp)


def finished_before(request: Request, outcome: Outcome) -> bool:
    """Tell whether OUT holds this very run; prepare it for work otherwise.

    Raises
    ------
    OutputError
        Where it holds another run, and overwriting was not asked for.
    """
    store, options = request.store, request.options
    if store.complete and not options.overwrite and _holds(request, outcome, store.result()):
        # a run killed after its result was in place may have left part files
        store.drop_work()
        return True
    # before anything is noted down: without the CNN, say, OUT is still free
    _ready_the_model(request)
    # the blocks' layout is part of what an unfinished run can go on with
    mark = run_mark(outcome.mark, request.settings, options.pseudonymise)
    known = store.fingerprint()
    if known is not None and known.get("run") != outcome.mark and not request.replaces:
        raise _other_run(store, "an unfinished run")
    if known != mark:
        store.drop_work()
        store.write_fingerprint(mark)
    return False


def _holds(request: Request, outcome: Outcome, stored: Result) -> bool:
    """Tell whether a complete result is this run's; refuse to replace another unasked."""
    # with names it is not what was asked for, though every figure is
    named = request.options.pseudonymise and stored.slide.path is not None
    if named and not request.replaces:
        raise _other_run(request.store, "a complete result with names,")
    corrected = stored.corrections_sha256
    same = fingerprint(outcome.measured, request.settings, corrected)
    if stored.fingerprint == same and not named:
        return True
    if corrected is not None:
        # a reader's work is never replaced unasked, by no batch either
        raise _other_run(request.store, "a result that a reader has corrected,")
    if not request.replaces:
        raise _other_run(request.store, "a complete result")
    return False


def _ready_the_model(request: Request) -> None:
    """Fail before the slide is read where the CNN cannot run."""
    if not request.store.staging.complete and request.settings.cnn.model is not None:
        from her2path.runs.case.cnn_review import make_ready

        make_ready(request.settings.cnn)


def _other_run(store: RunStore, what: str) -> OutputError:
    return OutputError(
        f"{store.out} holds {what} with other settings, of another slide or version",
        "Give another folder with -o, or --overwrite",
    )
