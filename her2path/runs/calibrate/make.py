"""A calibration, from what the laboratory has to the settings file that names it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from her2path import __version__
from her2path.core.errors import OutputError, UsageError, one_line
from her2path.core.results import AssayFacts
from her2path.core.settings import ASSAY_PARTS, Assay, Curve, Settings, Source
from her2path.io.reads import read_reads
from her2path.io.store import write_text
from her2path.runs.calibrate.controls import Loaded, read_controls, with_median
from her2path.runs.calibrate.from_reads import FromReads, fit_reads
from her2path.runs.calibrate.items import Item, items_of, used_reads
from her2path.scoring import guidelines
from her2path.scoring.calibration.calibrators import cutoffs_from_curve
from her2path.scoring.calibration.curve import fit_curve
from her2path.scoring.calibration.levels import Cutoffs, cutoffs_from_levels, relative_error
from her2path.scoring.calibration.ordinal import DRAWS

__all__ = ["Made", "Request", "calibrate"]

Measure = Literal["membrane_od", "membrane_od_ring", "membrane_mass"]
#: a noise floor above this would hide what is read as 1+
MOST_FLOOR = 0.05


@dataclass(frozen=True)
class Request:
    """What a calibration is to be made from.

    Attributes
    ----------
    reads, results : Path, optional
        READS.csv, and the OUT that it speaks of.
    controls : Path, optional
        CONTROLS.csv.
    settings : Settings
        ``score.guideline``, ``membrane.measure`` and what else is not fitted.
    curve_measure : str, optional
        The column that receptors are read off; None: ``membrane.measure``.
    assay : Assay
        For which assay; what is not given is taken from the results, where they agree.
    draws : int
        Of the bootstrap over cases.
    """

    reads: Path | None = None
    results: Path | None = None
    controls: Path | None = None
    settings: Settings = field(default_factory=Settings)
    curve_measure: Measure | None = None
    assay: Assay = field(default_factory=Assay)
    draws: int = DRAWS


@dataclass(frozen=True)
class Made:
    """A calibration: the settings tree, and remarks for people."""

    tree: dict[str, Any]
    remarks: tuple[str, ...]

    def yaml(self) -> str:
        """Return the settings file."""
        head = (f"# A calibration made by her2path {__version__}; research use only.\n"
                "# her2path score -c FILE, or her2path rescore OUT -c FILE.\n")  # fmt: skip
        return head + yaml.safe_dump(self.tree, sort_keys=False, allow_unicode=True)


def calibrate(asked: Request, out: Path | None = None, overwrite: bool = False) -> Made:
    """Make a calibration, and write it where `out` is given.

    Raises
    ------
    UsageError, ManifestError
        For what the data cannot carry, in one line.
    OutputError
        Where `out` exists and is not to be overwritten.
    """
    if out is not None and (out.is_dir() or (out.exists() and not overwrite)):
        raise OutputError(f"{out} exists", "Give -o another file, or --overwrite")
    if asked.reads is None and asked.controls is None:
        mend = "Give READS.csv with --results OUT, or --controls CONTROLS.csv"
        raise UsageError("there is nothing to calibrate from", mend)
    if asked.reads is not None and asked.results is None:
        raise UsageError("reads alone calibrate nothing", "Give --results OUT, which they speak of")
    guidelines.rule_set(asked.settings.score.guideline)
    made = _Making(asked).made()
    if out is not None:
        # what is written must be read again
        Settings().overlaid(made.tree)
        write_text(out, made.yaml())
    return made


class _Making:
    """One calibration in the making."""

    def __init__(self, asked: Request) -> None:
        self.asked, self.settings = asked, asked.settings
        self.measure = asked.settings.membrane.measure
        self.remarks: list[str] = []
        self.controls: list[Loaded] = []
        if asked.controls is not None:
            self.controls = read_controls(asked.controls, asked.settings, asked.results)
        self.items: list[Item] = []
        if asked.reads is not None and asked.results is not None:
            reads = used_reads(read_reads(asked.reads))
            self.items = items_of(reads, asked.results, self.measure)

    def made(self) -> Made:
        curve = self._curve()
        levels = self._levels()
        read = fit_reads(self.items, self.settings, self.asked.draws, self.settings.seed) \
            if self.asked.reads is not None else None  # fmt: skip
        cutoffs, word = self._cutoffs(read, levels, curve)
        tree: dict[str, Any] = {"membrane": {"measure": self.measure}}
        if cutoffs is not None:
            error = relative_error(*cutoffs)
            tree["membrane"] |= {
                "cutoffs": _rounded(cutoffs[0]), "calibration": word,
                "cutoffs_relative_error": float(f"{error:.4g}"),
            }  # fmt: skip
        if read is not None and read.complete_at is not None:
            tree["membrane"]["complete_at"] = read.complete_at
        floor = self._noise_floor(levels)
        if floor is not None:
            tree["score"] = {"noise_floor": floor}
        tree["calibration"] = {
            "curve": curve.model_dump(mode="json") if curve is not None else None,
            "assay": self._assay().model_dump(mode="json"),
            "cutoffs_intervals": [_rounded(p) for p in cutoffs[1]] if cutoffs is not None else None,
            "complete_at_interval": list(read.complete_at_interval)
            if read is not None and read.complete_at_interval is not None else None,
            "agreement": read.agreement if read is not None else {},
            "made_from": [s.model_dump(mode="json", exclude_none=True) for s in self._sources()],
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip
        return Made(tree, tuple(self.remarks))

    def _curve(self) -> Curve | None:
        controls = [c.control for c in self.controls]
        if all(c.receptors is None for c in controls):
            return None
        measure = self.asked.curve_measure or self.measure
        curve, remarks = fit_curve(controls, measure, self.settings.seed)
        self.remarks += remarks
        return curve

    def _levels(self) -> Cutoffs | None:
        controls = [c.control for c in self.controls]
        if all(c.level is None for c in controls):
            return None
        if self.asked.reads is not None and not {1, 2, 3} <= {c.level for c in controls}:
            self.remarks.append("the cut-offs follow the reads; not every level has a control")
            return None
        return cutoffs_from_levels(controls, self.measure, self.settings.seed)

    def _cutoffs(
        self, read: FromReads | None, levels: Cutoffs | None, curve: Curve | None
    ) -> tuple[tuple[np.ndarray, np.ndarray] | None, str]:
        """Return the cut-offs: of the reads, else of levels, else of calibrators."""
        if read is not None:
            if levels is not None:
                self.remarks.append("the cut-offs follow the reads; the controls alone would give "
                                    + ", ".join(f"{v:.3g}" for v in levels.values))  # fmt: skip
            return (read.values, read.intervals), "reads"
        if levels is not None:
            return (levels.values, levels.intervals), "control"
        if curve is None or curve.measure != self.measure:
            return None, "uncalibrated"
        try:
            found = cutoffs_from_curve(curve)
        except UsageError as exc:
            self.remarks.append(f"the cut-offs stay as they are: {exc.what}")
            return None, "uncalibrated"
        return (found.values, found.intervals), "calibrators"

    def _noise_floor(self, levels: Cutoffs | None) -> float | None:
        if levels is None or levels.blank_share is None:
            return None
        if levels.blank_share > MOST_FLOOR:
            self.remarks.append(
                f"the noise floor stays as it is: up to {levels.blank_share:.1%} of the cells of "
                "the 0 controls read stained"
            )
            return None
        return float(np.ceil(levels.blank_share * 1000) / 1000)

    def _assay(self) -> Assay:
        """Return the assay: as given, else as all results name it.

        Raises
        ------
        UsageError
            Where results of several assays would be mixed.
        """
        known: Sequence[AssayFacts] = [c.assay for c in self.controls]
        known = [*known, *(a for item in self.items for a in item.assays)]
        parts: dict[str, str | None] = {}
        for part in ASSAY_PARTS:
            given = getattr(self.asked.assay, part)
            named = {n.casefold(): n for a in known if (n := getattr(a, part))}
            if given is None and len(named) > 1:
                raise UsageError(
                    f"the results are of several assays ({part}: "
                    f"{', '.join(one_line(n, 40) for n in sorted(named.values())[:4])})",
                    f"Calibrate each alone, or name it with --{part}",
                )
            parts[part] = given or next(iter(named.values()), None)
        return Assay.model_validate(parts)

    def _sources(self) -> list[Source]:
        found = [with_median(c, self.measure) for c in self.controls]
        if self.asked.controls is not None:
            found.append(_file(self.asked.controls, "control"))
        if self.asked.reads is not None:
            found.append(_file(self.asked.reads, "reads"))
            digest = hashlib.sha256("".join(i.sha256 for i in self.items).encode()).hexdigest()
            found.append(Source(name=f"results of {len(self.items)} items", kind="results",
                                sha256=digest))  # fmt: skip
        return found


def _file(path: Path, kind: Literal["control", "reads"]) -> Source:
    return Source(name=one_line(path.name, 100), kind=kind,
                  sha256=hashlib.sha256(path.read_bytes()).hexdigest())  # fmt: skip


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{v:.6g}") for v in values]
