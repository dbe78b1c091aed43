"""The description of the outputs names every column and every flag."""

from pathlib import Path

import pytest

from her2path.core.flags import FLAGS
from her2path.core.schema import CELLS, REGIONS

TEXT = (Path(__file__).parents[1] / "docs" / "outputs.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("column", [*CELLS, *REGIONS], ids=lambda c: c.name)
def test_every_column_is_described_with_its_unit(column) -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith(f"| `{column.name}` |")]
    assert any(f"| {column.unit} | {column.meaning} |" in row for row in rows)


@pytest.mark.parametrize("code", FLAGS)
def test_every_flag_is_described(code: str) -> None:
    assert f"| `{code}` | {FLAGS[code][0]} | {FLAGS[code][1]} |" in TEXT
