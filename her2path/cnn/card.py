"""The model card: what a model is, what it saw, how it did, what it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from her2path.core.errors import InputError
from her2path.core.schema import SCORES

__all__ = ["INTENDED_USE", "Card", "read_card"]

MAX_CARD_BYTES = 1 << 20
INTENDED_USE = (
    "Research use only, as a second look beside the rule-based score; never in its place, and not "
    "for decisions on patients."
)


class Card(BaseModel):
    """A model card, stored as JSON beside the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal["her2path-cnn-1"] = "her2path-cnn-1"
    name: str = Field(description="name of the model")
    version: str = Field(description="version of the model")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the safetensors file")
    architecture: str = Field(description="name in the registry of networks")
    arguments: dict[str, Any] = Field(default_factory=dict, description="of its constructor")
    parameters: int = Field(gt=0, description="number of trained values")
    channels: Literal["h_dab", "od"] = Field(description="planes that it sees")
    mpp: float = Field(gt=0.1, le=2.0, description="µm per pixel of its patches")
    patch_px: int = Field(ge=16, le=2048, description="side of a patch, pixels")
    classes: tuple[str, ...] = Field(default=SCORES, description="what it tells apart, in order")
    normalisation: dict[str, Any] = Field(description="how pixels become its input")
    temperature: float = Field(gt=0, description="its logits are divided by this")
    share: float = Field(
        default=0.5,
        gt=0,
        le=0.5,
        description="a slide or region has the highest score that at least this share of it "
        "reaches, in expectation",
    )
    guideline: str = Field(description="rule set that its labels follow")
    training: dict[str, Any] = Field(description="data, split, seed, epochs")
    metrics: dict[str, Any] = Field(description="on data held out of training")
    licence: str = Field(description="of the weights")
    intended_use: str = INTENDED_USE
    limits: tuple[str, ...] = ()

    @field_validator("classes")
    @classmethod
    def _four(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value != SCORES:
            raise ValueError(f"the classes are {', '.join(SCORES)}, in this order")
        return value

    def json_text(self) -> str:
        """Return it as JSON."""
        return self.model_dump_json(indent=2) + "\n"


def read_card(path: Path) -> Card:
    """Read a card.

    Raises
    ------
    InputError
        Where it is missing, too large, or not a card.
    """
    try:
        if path.stat().st_size > MAX_CARD_BYTES:
            raise InputError(f"the model card {path} is over 1 MiB", "Get the model again")
        return Card.model_validate_json(path.read_bytes())
    except OSError as exc:
        raise InputError(
            f"the model card {path} cannot be read ({exc.strerror})",
            "A model is two files: NAME.safetensors and NAME.json; keep them together",
        ) from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(x) for x in first["loc"]) or "card"
        raise InputError(
            f"{path} is not a model card ({where}: {first['msg']})", "Get the model again"
        ) from exc
