"""The settings as one frozen tree: YAML in and out, and changes by dotted path.

A mistyped key is an error that lists the valid ones; nothing is dropped silently.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import Field, ValidationError, model_validator

from her2path.core.errors import SettingsError, one_line
from her2path.core.settings.assay import Assay, Calibration
from her2path.core.settings.base import Section
from her2path.core.settings.sections import (
    CnnSettings,
    HeterogeneitySettings,
    IshSettings,
    MembraneSettings,
    NucleiSettings,
    QcSettings,
    RegionSettings,
    ScoreSettings,
    SensitivitySettings,
    SlideSettings,
    StainSettings,
    StreamSettings,
    TissueSettings,
    TumourSettings,
)

__all__ = ["Settings", "load_settings", "parse_set", "read_tree"]

#: the most that a settings file may weigh: a YAML bomb is refused before it is parsed
MAX_SETTINGS_BYTES = 1 << 20
#: where ready settings lie: in the installed package, or in the working copy that it runs from
READY = (Path(__file__).parents[2] / "configs", Path(__file__).parents[3] / "configs")


class Settings(Section):
    """All settings of a run."""

    slide: SlideSettings = SlideSettings()
    tissue: TissueSettings = TissueSettings()
    stain: StainSettings = StainSettings()
    nuclei: NucleiSettings = NucleiSettings()
    membrane: MembraneSettings = MembraneSettings()
    tumour: TumourSettings = TumourSettings()
    score: ScoreSettings = ScoreSettings()
    regions: RegionSettings = RegionSettings()
    heterogeneity: HeterogeneitySettings = HeterogeneitySettings()
    ish: IshSettings = IshSettings()
    stream: StreamSettings = StreamSettings()
    qc: QcSettings = QcSettings()
    cnn: CnnSettings = CnnSettings()
    assay: Assay = Field(default=Assay(), description="of the slide; a manifest's row wins")
    calibration: Calibration = Calibration()
    sensitivity: SensitivitySettings = SensitivitySettings()
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="seed of every random draw")

    def __init__(self, **data: Any) -> None:
        """Build the tree; `SettingsError` in one line where it does not fit."""
        try:
            super().__init__(**data)
        except ValidationError as exc:
            raise told(exc) from exc

    @model_validator(mode="before")
    @classmethod
    def _no_none_sections(cls, data: Any) -> Any:
        # an empty section in YAML ("score:") reads as None: it means "nothing changed here"
        if isinstance(data, dict):
            return {k: v for k, v in data.items() if v is not None}
        return data

    def replace(self, changes: dict[str, Any]) -> Settings:
        """Return a copy with dotted paths changed, validated again.

        Raises
        ------
        SettingsError
            For an unknown path or a value that does not fit.
        """
        tree = self.model_dump(mode="json")
        for path, value in changes.items():
            _put(tree, path, value)
        return _validate(tree)

    def overlaid(self, tree: dict[str, Any]) -> Settings:
        """Return a copy in which the keys of a settings file stand over these.

        A calibration stands or falls as a whole: where the file has one, nothing of the old stays.

        Raises
        ------
        SettingsError
            For an unknown key or a value that does not fit.
        """
        own = self.model_dump(mode="json")
        for section, part in tree.items():
            whole = section == "calibration" or not isinstance(part, dict)
            old = own.get(section)
            own[section] = part if whole or not isinstance(old, dict) else {**old, **part}
        return _validate(own)

    def to_yaml(self) -> str:
        """Return the whole tree as YAML."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def sha256(self) -> str:
        """Return the fingerprint of what can change a result (``stream`` cannot)."""
        tree = self.model_dump(mode="json", exclude={"stream"})
        for key in ("cache_mb", "reader"):
            tree["slide"].pop(key)
        for key in ("batch", "device", "runtime"):
            tree["cnn"].pop(key)
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *sections, leaf = path.split(".")
    node: Any = tree
    for depth, name in enumerate([*sections, leaf]):
        if not isinstance(node, dict) or name not in node:
            known = sorted(node) if isinstance(node, dict) else []
            near = difflib.get_close_matches(name, known, 1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise SettingsError(
                f"there is no setting {path!r}",
                f"{hint}Valid here: {', '.join(known) or 'nothing'}",
            )
        if depth < len(sections):
            node = node[name]
    node[leaf] = value


def _validate(tree: Any) -> Settings:
    try:
        return Settings.model_validate(tree)
    except ValidationError as exc:
        raise told(exc) from exc


def told(exc: ValidationError) -> SettingsError:
    """Return what does not fit as one line."""
    first = exc.errors()[0]
    where = ".".join(str(x) for x in first["loc"]) or "settings"
    if first["type"] == "extra_forbidden":
        return SettingsError(
            f"there is no setting {where!r}",
            f"Valid there: {', '.join(_keys_at(first['loc'][:-1]))}",
        )
    return SettingsError(f"setting {where}: {first['msg']}", "Correct the value")


def _keys_at(loc: Sequence[Any]) -> list[str]:
    model: Any = Settings
    for name in loc:
        model = getattr(model, "model_fields", {}).get(name)
        model = next((m for m in (get_args(model.annotation) or (model.annotation,))
                      if hasattr(m, "model_fields")), None) if model else None  # fmt: skip
    return sorted(getattr(model, "model_fields", ()))


def load_settings(path: str | Path | None = None, changes: Sequence[str] = ()) -> Settings:
    """Read settings from YAML and apply ``key.sub=value`` changes.

    Parameters
    ----------
    path : path, optional
        A YAML file, or the bare name of ready settings (``international_2026``), with any part of
        the tree; absent keys keep their defaults.
    changes : sequence of str
        ``key.sub=value``; the value is read as YAML.

    Raises
    ------
    SettingsError
        For a missing or oversized file, broken YAML, an unknown key or a wrong value.
    """
    settings = _validate(read_tree(path) if path is not None else {})
    return settings.replace(dict(parse_set(c) for c in changes)) if changes else settings


def read_tree(path: str | Path) -> dict[str, Any]:
    """Return what a settings file says, not yet checked against the model.

    Raises
    ------
    SettingsError
        For a missing or oversized file, or broken YAML.
    """
    path = _ready(Path(path))
    try:
        if path.stat().st_size > MAX_SETTINGS_BYTES:
            raise SettingsError(f"the settings file {path} is over 1 MiB", "Give a settings file")
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise SettingsError(
            f"the settings file {path} cannot be read ({exc.strerror})", "Check the path"
        ) from exc
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as exc:
        raise SettingsError(
            f"the settings file {path} is not valid YAML ({one_line(exc, 160)})", "Correct it"
        ) from exc
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(f"the settings file {path} is not a table of settings", "Correct it")
    return tree


def _ready(path: Path) -> Path:
    """Return the file of ready settings that a bare name means, where no such file lies here."""
    if path.exists() or path.name != str(path) or path.suffix not in ("", ".yaml"):
        return path
    name = f"{path.stem}.yaml"
    found = [p / name for p in READY if (p / name).is_file()]
    return found[0] if found else path


def parse_set(text: str) -> tuple[str, Any]:
    """Split ``key.sub=value``; the value is read as YAML.

    Raises
    ------
    SettingsError
        Where there is no ``=``, or the value is not YAML.
    """
    key, eq, raw = text.partition("=")
    if not eq or not key.strip():
        raise SettingsError(
            f"--set {text!r} is not key.sub=value", "Write --set score.min_cells=50"
        )
    try:
        return key.strip(), yaml.safe_load(raw)
    except (yaml.YAMLError, RecursionError, ValueError) as exc:
        raise SettingsError(f"--set {text!r}: the value is not YAML", "Quote it") from exc
