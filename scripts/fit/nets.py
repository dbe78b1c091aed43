"""The two nets of the reading, as torch modules; what ships is their export (see `fit.reading`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from her2path.cells.reading.inputs import CHANNELS, PLACES, RADII, WRAP

#: features that the finder hands to the reader at a nucleus
FEATURES = 24
#: the finder's outputs are this many grid points apart, and what it needs around them
STRIDE, MARGIN = 2, 32
BINS = RADII // 2
WIDE = 16


class Finder(nn.Module):
    """Says where nuclei are, of what kind, and what the surroundings look like.

    Most weights lie at a quarter of the grid, where they cost least.

    Takes (N, 4, R, C) on the finder's grid, R and C = 64 more than multiples of 8; gives the heat
    (N, 1, R - 64, C - 64) on the same grid, and per second grid point the logits of the kind
    (N, 3, (R - 64) / 2, ...) and the features (N, 24, ...). No padding: what a point says depends
    on the points around it and on nothing else.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(CHANNELS, 16, 3)
        self.halved = nn.Conv2d(16, 32, 3, stride=2)
        self.shape = nn.Conv2d(32, 32, 3)
        self.quartered = nn.Conv2d(32, 64, 3, stride=2)
        self.near = nn.Conv2d(64, 64, 3, dilation=2)
        self.far = nn.Conv2d(64, 64, 3, dilation=4)
        self.mix = nn.Conv2d(64, 128, 1)
        self.mixed = nn.Conv2d(128, 64, 1)
        self.back = nn.Conv2d(64, 32, 1)
        self.join = nn.Conv2d(32, FEATURES, 3)
        self.heat = nn.Conv2d(FEATURES, 4, 1)
        self.kind = nn.Conv2d(FEATURES, 3, 1)
        nn.init.constant_(self.heat.bias, -4.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return heat (logits), kind (logits) and features."""
        a = torch.relu(self.shape(torch.relu(self.halved(torch.relu(self.fine(x))))))
        b = torch.relu(self.far(torch.relu(self.near(torch.relu(self.quartered(a))))))
        b = torch.relu(b + self.mixed(torch.relu(self.mix(b))))
        up = nn.functional.interpolate(self.back(b), scale_factor=2, mode="nearest")
        rows, columns = up.shape[-2], up.shape[-1]
        a = a[..., 13 : 13 + rows, 13 : 13 + columns]
        f = torch.relu(self.join(torch.relu(a + up)))
        return nn.functional.pixel_shuffle(self.heat(f), 2), self.kind(f), f


class Reader(nn.Module):
    """Reads one cell from its surroundings in polar form.

    Takes (N, 4, 30, 32) and the finder's features (N, 24); gives, per place, the logits of where
    the border and the nuclear edge run (N, 2, 24, 16) and of the own membrane being stained
    (N, 24), and per cell five logits (N, 5): kind (3), any staining, complete.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(CHANNELS, WIDE, (1, 4), stride=(1, 2), padding=(0, 1))
        self.second = nn.Conv2d(WIDE, WIDE, 3, padding=(0, 1))
        self.third = nn.Conv2d(WIDE, WIDE, 3, stride=(1, 2), padding=(0, 1))
        self.fourth = nn.Conv2d(WIDE, WIDE, 3, padding=(0, 1))
        self.edges = nn.Conv2d(WIDE, 4, 1)
        self.place = nn.Conv2d(WIDE, 32, (1, BINS // 2))
        self.whole = nn.Linear(64 + FEATURES, 64)
        self.verdict = nn.Linear(64, 5)
        self.own_place = nn.Conv2d(32, 24, 1)
        self.own_whole = nn.Linear(64, 24)
        self.own = nn.Conv2d(24, 1, 1)

    def forward(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return edges, own and verdict."""
        f = torch.relu(self.second(torch.relu(self.first(x))))
        f = torch.relu(self.fourth(torch.relu(self.third(f))))
        place = torch.relu(self.place(f))
        pooled = torch.cat([place.mean((2, 3)), place.amax((2, 3)), features], 1)
        whole = torch.relu(self.whole(pooled))
        own = torch.relu(self.own_place(place) + self.own_whole(whole)[:, :, None, None])
        # two logits a radius: the halves of its bin
        edges = self.edges(f).unflatten(1, (2, 2)).permute(0, 1, 3, 4, 2).flatten(3)
        return edges, self.own(own)[:, 0, :, 0], self.verdict(whole)


# three convolutions over the places use up the wrapped ones
assert (WRAP, PLACES) == (3, 24)
