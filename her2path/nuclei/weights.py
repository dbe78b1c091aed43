"""Weights of the score: alone, and where the slide's contrast is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["BIAS", "BIAS_WITH_CONTRAST", "WEIGHTS", "WEIGHTS_WITH_CONTRAST"]

WEIGHTS: npt.NDArray[np.float64] = np.array(
    [
        3.4614,  # edge_mean
        3.5954,  # edge_low_quarter
        -1.4185,  # edge_weakest
        3.4560,  # edge_high_quarter
        2.8514,  # edge_absolute
        -0.3291,  # edge_share
        4.6271,  # inside_over_outside
        2.1940,  # inside_over_level
        4.0922,  # near_over_wide
        3.7361,  # hematoxylin
        -7.5923,  # dab_inside
        28.5311,  # dab_outside_over_inside
        -1.2896,  # dab_over_hematoxylin
        -5.2596,  # texture
        1.1246,  # core_over_rest
        6.5289,  # size
        -2.7814,  # size_squared
        -1.6538,  # elongation
        7.0003,  # roughness
        1.6582,  # off_centre
        0.8314,  # gain
        -10.9956,  # wall_mean
        0.6881,  # wall_share
        -3.8710,  # edge_without_wall
        1.3535,  # outside_over_wide
        -7.1058,  # edge_unevenness
    ],
    np.float64,
)
BIAS = -8.0770

WEIGHTS_WITH_CONTRAST: npt.NDArray[np.float64] = np.array(
    [
        2.0844,  # edge_mean
        4.5534,  # edge_low_quarter
        -2.5584,  # edge_weakest
        4.9061,  # edge_high_quarter
        1.2195,  # edge_absolute
        0.2470,  # edge_share
        4.3637,  # inside_over_outside
        0.7567,  # inside_over_level
        -1.1728,  # near_over_wide
        -0.9718,  # hematoxylin
        -1.4005,  # dab_inside
        18.7972,  # dab_outside_over_inside
        -0.6634,  # dab_over_hematoxylin
        -5.1100,  # texture
        -0.4040,  # core_over_rest
        7.1573,  # size
        -3.3950,  # size_squared
        -1.8270,  # elongation
        1.2952,  # roughness
        2.4044,  # off_centre
        -0.6753,  # gain
        -15.3560,  # wall_mean
        3.7633,  # wall_share
        -0.0832,  # edge_without_wall
        -1.2459,  # outside_over_wide
        -8.9313,  # edge_unevenness
        1.8409,  # contrast_of_slide
        -0.8670,  # edge_of_slide
        -2.8722,  # low_edge_of_slide
        4.9781,  # near_of_slide
        3.3262,  # gain_of_slide
        8.1476,  # hematoxylin_of_slide
    ],
    np.float64,
)
BIAS_WITH_CONTRAST = -9.9133
