"""Results in a notebook: opened from a folder, shown by themselves, as tables and as figures."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from her2path.core._optional import require
from her2path.core.errors import OutputError
from her2path.core.results import Result
from her2path.io.store import BatchStore, RunStore, read_json
from her2path.runs.case import SlideResult

if TYPE_CHECKING:
    from her2path.outputs.report.context import SlideContext

__all__ = ["Batch", "Case", "Plots", "Slide", "open_result"]


def open_result(folder: str | Path) -> Slide | Case | Batch:
    """Reopen what a run left.

    Parameters
    ----------
    folder : path
        OUT of a slide or of a batch, or a case's folder ``OUT/cases/<case_id>``.

    Returns
    -------
    Slide, Case or Batch

    Raises
    ------
    OutputError
        Where the folder holds none of them, or a result that cannot be read.
    """
    path = Path(folder)
    if (path / "case.json").is_file():
        return Case(path)
    if BatchStore(path).is_batch:
        return Batch(path)
    store = RunStore(path)
    if not store.complete:
        raise OutputError(
            f"{folder} holds no complete result", "Give the folder of a slide, a case or a batch"
        )
    return Slide(path, store.result(), fresh=False)


def _cells_html(rows: list[tuple[str, str]]) -> str:
    return "".join(
        f'<tr><th style="text-align:left">{escape(a)}</th>'
        f'<td style="text-align:left">{escape(b)}</td></tr>'
        for a, b in rows
    )


def _facts(result: Result) -> list[tuple[str, str]]:
    """Return the main figures in words."""
    if result.score is None:
        why = [f.message for f in result.qc.flags if f.severity == "fail"]
        return [("Score", "not evaluable"), ("Why", " ".join(why))]
    s, h = result.score, result.heterogeneity
    rows = [("Score", f"{s.ihc}{f' ({s.substate})' if s.substate else ''} by {s.guideline}"),
            ("Category", f"HER2-{s.category}")]  # fmt: skip
    if s.probability:
        rows.append(("Probability", ", ".join(f"{k} {v:.0%}" for k, v in s.probability.items()
                                              if v >= 0.005)))  # fmt: skip
    if result.h_score is not None:
        rows.append(("H-score", f"{result.h_score:.0f} of 300"))
    rows.append(("Tumour cells", f"{result.counts.tumour:,}"))
    if h is not None and h.positive_cell_fraction is not None:
        told = " or ".join(h.positive_definition).replace("_", " ")
        rows.append(("Positive cells", f"{h.positive_cell_fraction:.1%} ({told})"))
        rows.append(("Layout", h.pattern.type))
    grave = [f.code for f in result.qc.flags if f.severity != "info"]
    return [*rows, ("Flags", ", ".join(grave) or "none")]


class Slide(SlideResult):
    """One slide's result; the parts of ``result.json`` are attributes (``score``, ``qc``, ...)."""

    @property
    def plot(self) -> Plots:
        """Figures (matplotlib)."""
        return Plots(self.out)

    def to_pandas(self, columns: list[str] | None = None) -> Any:
        """Return the cell table, or some of its columns, as a DataFrame."""
        require("pandas", "to_pandas")
        return self.cells(columns).to_pandas()

    def __dir__(self) -> list[str]:
        own = [n for n in super().__dir__() if not n.startswith("_")]
        return sorted({*own, *Result.model_fields})

    def _repr_html_(self) -> str:
        head = f"<caption>HER2, slide {escape(self.result.slide.id)} (research use only)</caption>"
        return f"<table>{head}{_cells_html(_facts(self.result))}</table>"


class Case:
    """One case of a batch: ``case.json`` as attributes, and its slides."""

    def __init__(self, folder: Path) -> None:
        self.out = folder
        self.tree = dict(read_json(folder / "case.json"))
        self.result = Result.model_validate(self.tree)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("tree", "result"):
            raise AttributeError(name)
        if name in Result.model_fields:
            return getattr(self.result, name)
        try:
            return self.tree[name]
        except KeyError:
            raise AttributeError(f"a case has no {name!r}") from None

    def __dir__(self) -> list[str]:
        own = [n for n in super().__dir__() if not n.startswith("_")]
        return sorted({*own, *self.tree})

    def __repr__(self) -> str:
        score = self.result.score.ihc if self.result.score else self.result.status
        return f"Case({self.tree.get('case_id')!r}, {score})"

    def opened(self) -> list[Slide]:
        """Return the slides that have a result."""
        batch = BatchStore(self.out.parent.parent)
        stores = [batch.slide(str(s["folder"])) for s in self.tree.get("slides") or []]
        return [Slide(s.out, s.result(), fresh=False) for s in stores if s.complete]

    def to_pandas(self) -> Any:
        """Return the case's slides as a DataFrame, one row a slide."""
        require("pandas", "to_pandas")
        return pa.Table.from_pylist(self.tree.get("slides") or []).to_pandas()

    def _repr_html_(self) -> str:
        name = escape(str(self.tree.get("case_id")))
        slides = ", ".join(f"{s.get('slide_id')} {s.get('ihc') or s.get('status')}"
                           for s in self.tree.get("slides") or [])  # fmt: skip
        rows = [*_facts(self.result), ("Slides", slides)]
        return f"<table><caption>HER2, case {name}</caption>{_cells_html(rows)}</table>"


class Batch:
    """Many slides and cases."""

    def __init__(self, folder: Path) -> None:
        self.out = folder
        self._store = BatchStore(folder)

    def __repr__(self) -> str:
        return f"Batch({self.out.as_posix()!r}, {len(self.slides())} slides)"

    def slides(self) -> list[Slide]:
        """Return the slides that have a result."""
        return [Slide(s.out, s.result(), fresh=False) for s in self._store.slides()]

    def cases(self) -> list[Case]:
        """Return the cases."""
        return [Case(folder) for folder in self._store.case_dirs()]

    def to_pandas(self, cases: bool = False) -> Any:
        """Return ``slides.csv``, or ``cases.csv``, as a DataFrame."""
        pd = require("pandas", "to_pandas")
        path = self.out / ("cases.csv" if cases else "slides.csv")
        if not path.is_file():
            raise OutputError(f"{path} is missing", "Run the batch to its end")
        text = {"slide_id": str, "case_id": str, "ihc": str}
        return pd.read_csv(path, dtype=text, encoding="utf-8-sig")

    def _repr_html_(self) -> str:
        rows = [(s.result.slide.id, s.result.score.ihc if s.result.score else "not evaluable")
                for s in self.slides()]  # fmt: skip
        head = f"<caption>HER2, batch {escape(self.out.name)}, {len(rows)} slides</caption>"
        return f"<table>{head}{_cells_html(rows[:50])}</table>"


class Plots:
    """A slide's figures; each returns a matplotlib Figure.

    Raises
    ------
    OutputError
        From every method, where what it shows was not stored or could not be measured.
    """

    def __init__(self, out: Path) -> None:
        self._out = out

    def overview(self) -> Any:
        """Return the slide as it is, and with its tumour cells coloured by score."""
        return self._drawn(_overview)

    def patterns(self) -> Any:
        """Return the shares of the seven patterns with their 95 % intervals."""
        from her2path.outputs.report import parts

        return self._drawn(parts.fractions_figure)

    def regions(self, what: str = "score") -> Any:
        """Return the map of the regions.

        Parameters
        ----------
        what : str
            ``score``, ``positive_fraction``, ``area_class``, ``category`` or ``gi_z``.
        """
        from her2path.outputs.report import parts

        known = (*parts.MAPS, *parts.MORE_MAPS)
        if what not in known:
            raise OutputError(f"regions have no map {what!r}", f"Valid: {', '.join(known)}")
        return self._drawn(lambda context: parts.region_figure(context, what))

    def strength(self) -> Any:
        """Return the histograms of strength and completeness."""
        from her2path.outputs.report import parts

        return self._drawn(parts.strength_figure)

    def bystander(self) -> Any:
        """Return the share of tumour cells near a positive one, over the distance."""
        from her2path.outputs.report import parts

        return self._drawn(parts.bystander_figure)

    def __dir__(self) -> list[str]:
        return ["bystander", "overview", "patterns", "regions", "strength"]

    def _drawn(self, draw: Callable[[SlideContext], Any]) -> Any:
        from her2path.outputs.report.context import CannotSay, SlideContext

        try:
            figure = draw(SlideContext(RunStore(self._out)))
        except CannotSay as exc:
            raise OutputError(str(exc), "See the report of this result") from exc
        figure.set_facecolor("white")
        # a notebook that has not set up matplotlib shows it all the same
        figure._repr_png_ = lambda: _png(figure)
        return figure


def _png(figure: Any) -> bytes:
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, format="png", dpi=110, facecolor="white")
    return buffer.getvalue()


def _overview(context: SlideContext) -> Any:
    import numpy as np
    from matplotlib.figure import Figure

    from her2path.outputs.palette import SCORE_COLOURS, rgb
    from her2path.outputs.report import pictures
    from her2path.outputs.report.canvas import keys

    image = context.thumbnail
    size = context.get("slide.width_px"), context.get("slide.height_px")
    figure = Figure(figsize=(9.0, 0.6 + 4.5 * image.shape[0] / image.shape[1]), layout="tight")
    for ax, title in zip(figure.subplots(1, 2), ("as it is", "cells by score"), strict=True):
        ax.imshow(image)
        ax.set_title(title)
        ax.set_axis_off()
    if context.evaluable and all(size):
        scale = image.shape[1] / size[0], image.shape[0] / size[1]
        codes = pictures.score_layer(context, (image.shape[0], image.shape[1]), scale)
        table = [(0, 0, 0, 0), *((*rgb(c), 150) for c in SCORE_COLOURS.values())]
        figure.axes[1].imshow(np.array(table, np.uint8)[codes])
        figure.legend(handles=keys(SCORE_COLOURS), loc="lower center", ncols=4)
    return figure
