"""Training, validation and test parts: by case and by scanner, never by patch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2path.cnn.patches import Patches
from her2path.core.errors import ManifestError

__all__ = ["Split", "split"]

#: parts of the patches that go to validation and to test
SHARE = 0.2
#: scanners from which whole ones are held out for the test
ENOUGH_SCANNERS = 3


@dataclass(frozen=True)
class Split:
    """Rows of each part, and whether the test part's scanners were never trained on."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    unseen_scanners: bool


def split(patches: Patches, seed: int) -> Split:
    """Part the patches.

    A case that was scanned twice keeps both scanners on one side. With three scanners or more whole
    ones are held out for the test, otherwise whole cases; validation takes whole cases of the rest.

    Raises
    ------
    ManifestError
        With fewer than three cases.
    """
    cases = np.unique(patches.case)
    if len(cases) < 3:
        raise ManifestError(
            f"there are patches of {len(cases)} cases, and 3 are the least",
            "Patches of one case may not be parted: give more cases in case_id",
        )
    rng = np.random.default_rng([seed, 41])
    groups = _scanner_groups(patches)
    unseen = len(np.unique(groups)) >= ENOUGH_SCANNERS
    test = _hold_out(groups if unseen else patches.case, patches.label, rng)
    if unseen and len(np.unique(patches.case[~test])) < 2:
        unseen, test = False, _hold_out(patches.case, patches.label, rng)
    rest = np.flatnonzero(~test)
    held = _hold_out(patches.case[rest], patches.label[rest], rng)
    return Split(rest[~held], rest[held], np.flatnonzero(test), unseen)


def _scanner_groups(patches: Patches) -> NDArray[np.str_]:
    """Return a name a patch; scanners that share a case get the same."""
    head = {str(s): str(s) for s in np.unique(patches.scanner)}

    def root(name: str) -> str:
        while head[name] != name:
            name = head[name]
        return name

    for case in np.unique(patches.case):
        names = sorted({root(str(s)) for s in np.unique(patches.scanner[patches.case == case])})
        for name in names[1:]:
            head[name] = names[0]
    return np.array([root(str(s)) for s in patches.scanner])


def _hold_out(
    group: NDArray[np.str_], label: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Choose whole groups with about `SHARE` of the patches, their classes as even as can be."""
    names = np.unique(group)
    counts = np.array([np.bincount(label[group == n], minlength=4) for n in names], np.float64)
    target = SHARE * counts.sum(axis=0)
    scale = np.maximum(target, 1.0)
    chosen = np.zeros(len(names), bool)
    order = rng.permutation(len(names))
    while chosen.sum() < len(names) - 1:
        have = counts[chosen].sum(axis=0)
        free = [i for i in order if not chosen[i]]
        after = [float((((have + counts[i] - target) / scale) ** 2).sum()) for i in free]
        best = int(np.argmin(after))
        if chosen.any() and after[best] >= float((((have - target) / scale) ** 2).sum()):
            break
        chosen[free[best]] = True
    return np.isin(group, names[chosen])
