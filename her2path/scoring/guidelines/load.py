"""Finding a rule set: a shipped one by its name, a user's own by the path of its YAML file."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from her2path.core.errors import SettingsError, one_line
from her2path.scoring.guidelines.catalogue import CATALOGUE
from her2path.scoring.guidelines.ruleset import RuleSet

__all__ = ["get_rule_set", "load_rule_set", "names", "parse_rule_set"]

#: the most that a rule set file may weigh
MAX_RULE_SET_BYTES = 64 << 10


@cache
def _shipped() -> dict[str, RuleSet]:
    return {entry["name"]: RuleSet.model_validate(entry) for entry in CATALOGUE}


def names() -> tuple[str, ...]:
    """Return the names of the shipped rule sets."""
    return tuple(_shipped())


def get_rule_set(guideline: str | Path | RuleSet) -> RuleSet:
    """Return a rule set by name, by the path of a YAML file, or itself.

    Raises
    ------
    SettingsError
        For an unknown name (the valid ones are listed) or a faulty file.
    """
    if isinstance(guideline, RuleSet):
        return guideline
    text = str(guideline)
    if text in _shipped():
        return _shipped()[text]
    if text.lower().endswith((".yaml", ".yml")):
        return load_rule_set(Path(text))
    near = difflib.get_close_matches(text, names(), 1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise SettingsError(
        f"there is no guideline {text!r}",
        f"{hint}Valid: {', '.join(names())}, or the path of a rule set in YAML",
    )


def load_rule_set(path: str | Path) -> RuleSet:
    """Read a user's rule set.

    The file holds the fields of `RuleSet`. With ``extends: NAME`` it starts from a shipped rule
    set and replaces the fields that it gives (``comments`` are merged).

    Raises
    ------
    SettingsError
        For a file that cannot be read, broken YAML, an unknown key, a name that is taken, a
        condition that cannot be read, or rules that are not total or not monotone.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_RULE_SET_BYTES:
            raise SettingsError(f"the rule set {path} is over 64 KiB", "Give a rule set file")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise SettingsError(
            f"the rule set {path} cannot be read ({exc.strerror})", "Check the path"
        ) from exc
    except UnicodeDecodeError as exc:
        raise SettingsError(f"the rule set {path} is not UTF-8 text", "Save it as UTF-8") from exc
    return parse_rule_set(text, str(path))


def parse_rule_set(text: str, where: str = "rule set") -> RuleSet:
    """Read a rule set from YAML text; see `load_rule_set`."""
    try:
        # aliases would let a few bytes stand for a great many
        if any(isinstance(t, yaml.AliasToken) for t in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise SettingsError(f"{where} uses YAML aliases", "Write the values out")
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as exc:
        raise SettingsError(
            f"{where} is not valid YAML ({one_line(exc, 160)})", "Correct it"
        ) from exc
    if not isinstance(tree, dict):
        raise SettingsError(f"{where} is not a table of fields", "Start with name, title, rules")
    return _validate(_extended(tree, where), where)


def _extended(tree: dict[Any, Any], where: str) -> dict[Any, Any]:
    if tree.get("name") in _shipped():
        raise SettingsError(f"{where}: the name {tree['name']} is taken", "Choose another name")
    base = tree.get("extends")
    if base is None:
        return tree
    if base not in _shipped():
        raise SettingsError(
            f"{where}: extends names no shipped rule set ({one_line(base, 60)})",
            f"Valid: {', '.join(names())}",
        )
    parent = _shipped()[base].model_dump(mode="json")
    own = {k: v for k, v in tree.items() if k != "extends"}
    if "name" not in own:
        raise SettingsError(f"{where}: name is missing", "Give the rule set a name of its own")
    if isinstance(own.get("comments"), dict):
        own["comments"] = parent["comments"] | own["comments"]
    return parent | own


def _validate(tree: dict[Any, Any], where: str) -> RuleSet:
    try:
        return RuleSet.model_validate(tree)
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(str(x) for x in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            known = ", ".join(RuleSet.model_fields)
            raise SettingsError(f"{where}: there is no field {place}", f"Fields: {known}") from exc
        at = f"{place}: " if place else ""
        raise SettingsError(f"{where}: {at}{message}", "Correct the rule set") from exc
