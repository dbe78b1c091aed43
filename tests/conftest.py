"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# a shared machine stalls now and then: a deadline would measure that
settings.register_profile("her2path", deadline=None, derandomize=True)
settings.load_profile("her2path")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real images; tests that need it are skipped where it is unset."""
    folder = os.environ.get("HER2PATH_REAL_DATA")
    if not folder:
        pytest.skip("HER2PATH_REAL_DATA is not set")
    return Path(folder)
