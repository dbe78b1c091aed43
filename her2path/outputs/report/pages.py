"""From a stored run to pages: HTML, PDF, figures."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from her2path import __version__
from her2path.core._optional import require
from her2path.core.settings import Settings
from her2path.io.store import BatchStore, RunStore, read_json, write_text
from her2path.io.store.files import make_dir, write_bytes
from her2path.outputs.palette import CATEGORY_COLOURS, SCORE_COLOURS
from her2path.outputs.report import canvas, first, parts, words
from her2path.outputs.report.context import CannotSay, CaseContext, Context, SlideContext
from her2path.outputs.report.drift import drift_values
from her2path.outputs.report.index import index_values
from her2path.outputs.report.sections import CASE_SECTIONS, SLIDE_SECTIONS, apart, make_all

__all__ = ["build", "build_all", "build_case", "build_index", "figures", "plain_page"]

#: nothing from outside, no script but the page's own
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {script}"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("her2path.outputs.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        version=__version__,
        colours=SCORE_COLOURS,
        category_words=words.CATEGORY_WORDS,
        form=lambda name, value: words.FORMATS[name](value),
        css=_asset("report.css"),
    )
    return environment


def _asset(name: str) -> Markup:
    text = (
        resources.files("her2path.outputs.report")
        .joinpath("assets", name)
        .read_text(encoding="utf-8")
    )
    return Markup(text)


def build(out: str | Path, pdf: bool = False) -> Path:
    """Make a slide's report from what is stored; the slide itself is not needed.

    Parameters
    ----------
    out : path
        Folder of a complete run.
    pdf : bool
        Write ``report.pdf`` too.

    Returns
    -------
    Path
        ``report.html``.

    Raises
    ------
    OutputError
        Where there is no complete run, or nothing can be written.
    MissingExtra
        For ``pdf`` without its extra.
    """
    store = RunStore(out)
    context = SlideContext(store)
    page = _page(context, SLIDE_SECTIONS, {"first": first.looks(context)})
    write_text(store.report_path, page)
    if pdf:
        write_pdf(page, store.report_path.with_suffix(".pdf"))
    return store.report_path


def build_all(out: str | Path, pdf: bool = False) -> list[Path]:
    """Make every report of a run, or of a batch with its cases and index.

    Returns
    -------
    list of Path
        The pages, in the order in which they were made.

    Raises
    ------
    OutputError
        Where the folder holds neither.
    """
    batch = BatchStore(out)
    if not batch.is_batch:
        return [build(out, pdf)]
    made = [build(store.out, pdf) for store in batch.slides()]
    made += [build_case(folder, pdf) for folder in batch.case_dirs()]
    return [*made, build_index(out)]


def build_case(case_dir: str | Path, pdf: bool = False) -> Path:
    """Make a case's report from its ``case.json``; return ``report.html``."""
    context = CaseContext(Path(case_dir))
    both = {k: _score_of(context.get(f"score_{k}")) for k in ("highest", "pooled")}
    page = _page(context, CASE_SECTIONS, {"first": first.case_looks(context), **both})
    path = Path(case_dir) / "report.html"
    write_text(path, page)
    if pdf:
        write_pdf(page, path.with_suffix(".pdf"))
    return path


def _score_of(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("ihc")
    return "–" if value is None else str(value)


def build_index(out: str | Path) -> Path:
    """Make a batch's ``index.html``: cases, slides and failures, sortable and filterable."""
    store = BatchStore(out)
    script = _asset("index.js")
    page = _environment().get_template("index.html.j2").render(
        script=script, policy=_POLICY.format(script=_hash(script)),
        **index_values(store, thumbnails=True),
    )  # fmt: skip
    write_text(store.index_path, page)
    _build_drift(store)
    return store.index_path


def _build_drift(store: BatchStore) -> None:
    """Make ``drift.html`` where the batch has control charts."""
    path = store.out / "drift.json"
    if path.is_file():
        page = (
            _environment()
            .get_template("drift.html.j2")
            .render(
                policy=_POLICY.format(script="'none'"), **drift_values(read_json(path), store.out)
            )
        )
        write_text(store.out / "drift.html", page)


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _page(context: Context, sections: Any, extra: dict[str, Any]) -> str:
    category = str(context.get("score.category"))
    shown, absent = apart(make_all(sections, context), context.why_not_evaluable)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            context=context,
            v=words.bind(context),
            shown=shown,
            absent=absent,
            print_head=_print_head(context),
            to_check=first.checks(context),
            viewer_port=first.VIEWER_PORT,
            score_words=words.score_words(context),
            sentence=words.heterogeneity_sentence(context),
            detection=words.detection_sentence(context),
            basis=words.basis_sentence(context),
            category_basis=_category_basis(context),
            category=words.CATEGORY_WORDS.get(category, category),
            category_colour=CATEGORY_COLOURS.get(category, "#888888"),
            noise_floor=_noise_floor(context),
            reasons=context.why_not_evaluable,
            policy=_POLICY.format(script="'none'"),
            **extra,
        )
    )


def _print_head(context: Context) -> Markup:
    """Return the style that puts the slide's and the case's name on every printed page."""
    names = [f"{context.kind.capitalize()} {context.title}"]
    case = context.get("slide.case_id")
    if context.kind == "slide" and case not in (None, context.title):
        names.append(f"case {case}")
    text = "".join(_css_character(c) for c in ", ".join(names))
    return Markup('@page{{@top-left{{content:"{}"}}}}').format(Markup(text))


def _css_character(c: str) -> str:
    """Return a character of a CSS string; all but plain ones escaped, so that none can end it."""
    return c if c.isascii() and (c.isalnum() or c in " ,.-_") else f"\\{ord(c):x} "


def _category_basis(context: Context) -> str | None:
    """Return what the category rests on where ISH was counted, in words."""
    if not isinstance(context, (SlideContext, CaseContext)):
        return None
    cases = (context.ish() or {}).get("cases") or []
    return cases[0].get("category_basis") if len(cases) == 1 else None


def plain_page(template: str, **values: Any) -> str:
    """Return a page from a template of its own; without script, nothing from outside."""
    page = _environment().get_template(template)
    return page.render(policy=_POLICY.format(script="'none'"), **values)


def _noise_floor(context: Context) -> str:
    if isinstance(context, SlideContext):
        try:
            return words.percent(context.settings.score.noise_floor)
        except CannotSay:
            return "not recorded"
    return words.percent(Settings().score.noise_floor)


def write_pdf(page: str, path: Path) -> int:
    """Print a page to A4; return the number of sheets.

    Raises
    ------
    MissingExtra
        Without the extra ``pdf``, or the Pango library that it needs.
    """
    weasyprint = require("weasyprint", "--pdf")
    # it names every SVG property that it reads in a way of its own: hundreds of lines a page
    weasyprint.LOGGER.setLevel(logging.ERROR)
    document = weasyprint.HTML(string=page, url_fetcher=_data_only(weasyprint)).render()
    write_bytes(path, document.write_pdf())
    return len(document.pages)


def _data_only(weasyprint: Any) -> Any:
    """Return a fetcher that opens what lies in the page itself and nothing else."""
    if hasattr(weasyprint.urls, "URLFetcher"):
        return weasyprint.urls.URLFetcher(allowed_protocols=("data",))

    def fetch(url: str) -> Any:
        if not url.startswith("data:"):
            raise ValueError(f"refused to fetch {url}")
        return weasyprint.default_url_fetcher(url)

    return fetch


def figures(out: str | Path, folder: str | Path) -> list[Path]:
    """Write a slide's plots for a paper, each as SVG and as PNG at 300 dpi.

    Returns
    -------
    list of Path
        The files; a plot that cannot be made is left out (the report says why).
    """
    context = SlideContext(RunStore(out))
    target = make_dir(Path(folder))
    made: list[Path] = []
    for name, draw in _FIGURES.items():
        try:
            figure = draw(context)
        except CannotSay:
            continue
        made += canvas.save(figure, target / name)
    return made


def _map(what: str) -> Callable[[SlideContext], Any]:
    return lambda context: parts.region_figure(context, what)


_FIGURES: dict[str, Callable[[SlideContext], Any]] = {
    "fractions": parts.fractions_figure,
    "strength": parts.strength_figure,
    "bystander": parts.bystander_figure,
    "variogram": parts.variogram_figure,
    **{f"regions_{w}": _map(w) for w in (*parts.MAPS, *parts.MORE_MAPS)},
    "regions_histogram": parts.histogram_figure,
    "spots": parts.spots_figure,
}
