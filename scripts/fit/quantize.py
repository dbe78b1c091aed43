"""Turn a fitted net's convolutions into eight-bit whole numbers: two to three times as fast.

Weights take seven bits and activations eight, so that a sum of products never overflows the
sixteen bits in which processors without VNNI add pairs of them: the whole numbers are the same on
every processor. Scales come from the least and the most of every activation over the samples given
(Jacob et al., CVPR 2018). The last layers, whose outputs are log odds, stay in single precision.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

__all__ = ["quantize"]

Feed = dict[str, NDArray[np.float32]]
#: operators that are done in whole numbers; all others stay as they are
WHOLE = ("Conv", "Relu", "Add", "Resize", "Slice")


class _Samples(CalibrationDataReader):
    """The samples one by one, as the library asks for them."""

    def __init__(self, feeds: Iterable[Feed]) -> None:
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        """Return the next sample; None when there are no more."""
        return next(self._feeds, None)


def quantize(file: Path, feeds: Iterable[Feed], *, single: tuple[str, ...]) -> None:
    """Quantize an ONNX file in place.

    Parameters
    ----------
    file : Path
        The net in single precision.
    feeds : iterable of dict
        Inputs by name, as the net will see them.
    single : tuple of str
        Layers that stay in single precision, by their names in the torch module.

    Raises
    ------
    ValueError
        Where a layer of that name is not in the net.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain = str(Path(folder) / "plain.onnx")
        quant_pre_process(str(file), plain, skip_symbolic_shape=True)
        names = [n.name for n in onnx.load(plain).graph.node]
        left = [n for n in names if n.split("/")[1:2] and n.split("/")[1] in single]
        if len({n.split("/")[1] for n in left}) != len(single):
            raise ValueError(f"{file.name} has no layers of all the names {single}: {names}")
        quantize_static(
            plain,
            str(file),
            _Samples(feeds),
            quant_format=QuantFormat.QOperator,
            op_types_to_quantize=list(WHOLE),
            nodes_to_exclude=left,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
