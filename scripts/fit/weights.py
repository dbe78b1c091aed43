"""Make every shipped weight from nothing: finder and reader of cells, then the CNN scorer.

    HER2PATH_REAL_DATA=DATA python -m scripts.fit.weights --cache CACHE
    HER2PATH_REAL_DATA=DATA python -m scripts.fit.weights --cache CACHE --short \
        --without 2_0123 0_a6d0 -o FOLDER

The first form writes the package's own weights and cards, in under two hours on two cores; the
second makes a short fit without some images elsewhere, to judge them by (see `evaluate/reads.py`,
``--nets FOLDER/reading``). Install by ``constraints.txt`` for the versions that the cards name.
The CNN learns from phantoms alone; real cells, read by eye, are among its judges.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from scripts.fit import cnn as train_builtin
from scripts.fit import reading as fit_reading


def main() -> None:
    """Read the command line, and make the weights one after the other."""
    raw = argparse.RawDescriptionHelpFormatter
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    ask.add_argument("--cache", type=Path, required=True, help="folder of pictures")
    ask.add_argument("--without", nargs="*", default=[], help="real images that take no part")
    ask.add_argument("--short", action="store_true", help="fewer steps, fewer phantoms")
    ask.add_argument("-o", "--out", type=Path, help="folder of the weights; the package's own")
    args = ask.parse_args()
    data = os.environ.get("HER2PATH_REAL_DATA")
    if not data:
        sys.exit("error: HER2PATH_REAL_DATA is not set. Name the folder of the real images in it.")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    nets = args.out / "reading" if args.out else fit_reading.FOLDER
    fit_reading.fit(argparse.Namespace(
        cache=args.cache, without=args.without, short=args.short, out=nets,
    ))  # fmt: skip
    cnn = args.out / "cnn" / "builtin.safetensors" if args.out else train_builtin.MODEL
    words = ["-o", str(cnn), "--work", str(args.cache / "cores")]
    if args.short:
        words += ["--phantoms", "60", "--drawn", "36", "--epochs", "6", "--evaluate", "8"]
    # cells of images that were left out are read with the nets that shipped, not with these
    words += [] if args.without else ["--real", data]
    train_builtin.run(train_builtin.arguments(words))


if __name__ == "__main__":
    main()
