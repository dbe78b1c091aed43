"""The training report: one page with its figures inside."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.cnn import metrics
from her2path.cnn.card import Card
from her2path.core.schema import SCORES
from her2path.io.store import write_text

__all__ = ["write_report"]

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1c1c1c}img{max-width:100%}table{border-collapse:collapse}"
    "td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:right}"
    "th:first-child,td:first-child{text-align:left}"
)


def write_report(
    path: Path,
    card: Card,
    history: list[dict[str, float]],
    p: NDArray[np.float64],
    truth: NDArray[np.int64],
) -> None:
    """Write the report as one HTML file.

    Parameters
    ----------
    path : Path
        The file.
    card : Card
        The model's card.
    history : list of dict
        One row an epoch.
    p, truth : float64 (N, 4), int64 (N,)
        Probabilities and labels of the test part.
    """
    test = card.metrics["test"]
    body = [
        f"<h1>{html.escape(card.name)} {html.escape(card.version)}</h1>",
        f"<p>{html.escape(card.intended_use)}</p>",
        f"<p>sha256 <code>{card.sha256}</code>, {card.parameters:,} values, "
        f"{card.patch_px} px at {card.mpp:g} µm/px, planes {card.channels}, "
        f"temperature {card.temperature:.3g}.</p>",
        *(f"<p>{html.escape(limit)}</p>" for limit in card.limits),
        "<h2>Parts</h2>",
        _parts(card),
        "<h2>Test part</h2>",
        f"<p>{test['patches']} patches of cases that were not trained on"
        f"{', on scanners that were not either' if card.training['test_scanners_unseen'] else ''}: "
        f"accuracy {_number(test.get('accuracy'))}, quadratic kappa "
        f"{_number(test.get('quadratic_kappa'))}, calibration error "
        f"{_number(test.get('calibration_error'))} (before calibration "
        f"{_number(card.metrics['test_before_calibration'].get('calibration_error'))}).</p>",
        _picture(_confusion_figure(p, truth), "Confusion matrix"),
        _picture(_reliability_figure(p, truth), "Reliability"),
        "<h2>Learning</h2>",
        _picture(_curves_figure(history), "Learning curves"),
    ]
    write_text(
        path,
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Training report</title>"
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n",
    )


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _parts(card: Card) -> str:
    head = "".join(f"<th>{w}</th>" for w in ("part", "patches", "cases", "scanners", *SCORES))
    rows = []
    for name in ("train", "validation", "test"):
        part = card.training[name]
        cells = [
            name,
            part["patches"],
            part["cases"],
            part["scanners"],
            *(part["classes"][s] for s in SCORES),
        ]
        rows.append("<tr>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _picture(figure: Any, words: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"<p><img alt='{words}' src='data:image/png;base64,{data}'></p>"


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(1, columns)


def _confusion_figure(p: NDArray[np.float64], truth: NDArray[np.int64]) -> Any:
    figure, axes = _figure(4.2, 3.8)
    table = metrics.confusion(truth, p.argmax(axis=1)) if len(p) else np.zeros((4, 4), np.int64)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (i, j), n in np.ndenumerate(table):
        axes.text(j, i, str(n), ha="center", va="center", color="w" if share[i, j] > 0.5 else "k")
    axes.set_xticks(range(4), SCORES)
    axes.set_yticks(range(4), SCORES)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    return figure


def _reliability_figure(p: NDArray[np.float64], truth: NDArray[np.int64]) -> Any:
    figure, axes = _figure(4.2, 3.8)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    if len(p):
        found = metrics.reliability(p, truth)
        some = found.count > 0
        axes.plot(found.stated[some], found.observed[some], "o-", color="#1f5fa8")
        places = zip(found.stated[some], found.observed[some], found.count[some], strict=True)
        for x, y, n in places:
            axes.annotate(str(n), (x, y), textcoords="offset points", xytext=(4, -10), fontsize=7)
    axes.set_xlabel("stated probability of the predicted class")
    axes.set_ylabel("share that was right (number of patches)")
    return figure


def _curves_figure(history: list[dict[str, float]]) -> Any:
    figure, (left, right) = _figure(8.4, 3.2, 2)
    epochs = range(1, len(history) + 1)
    for name in ("train_loss", "validation_loss"):
        left.plot(epochs, [h[name] for h in history], label=name.replace("_", " "))
    for name in ("validation_accuracy", "validation_kappa"):
        right.plot(epochs, [h[name] for h in history], label=name.replace("_", " "))
    left.set_ylabel("mean -ln p(label)")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.legend(frameon=False)
    return figure
