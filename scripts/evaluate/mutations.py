"""Mutations of files: bytes spoilt, words swapped, tags of a TIFF told otherwise."""

from __future__ import annotations

import random
import re
from pathlib import Path

WORSE = [b"", b"\0", b"-1", b"1e999", b"NaN", b"null", b"[]", b"{}", b"\xff\xfe", b"9" * 5000,
         b"[" * 3000, b'"' * 7, b"../../x", b"=cmd()", b"<script>", b"!!python/object:os.system",
         b"&a;", b"\n\n", b",,,,", b"2147483648", b"0"]  # fmt: skip
_WORD = re.compile(rb"[A-Za-z_]+|-?[0-9.]+")


def retold(path: Path, draw: random.Random) -> None:
    """Give the directories of a TIFF other tags: colour, kind, samples, size, orientation, name."""
    import tifffile

    #: photometric, compression, kind of image, extra samples, subsampling, orientation, planes
    worse = {262: (0, 1, 2, 3, 5, 6, 8, 32803), 259: (1, 5, 7, 8, 33003, 34712, 50000, 50001),
             254: (0, 1, 2, 3, 9), 277: (1, 3, 4), 274: (0, 1, 3, 6, 9), 284: (1, 2),
             256: (1, 128, 384, 40000), 257: (1, 128, 384, 40000), 296: (1, 2, 3)}  # fmt: skip
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for page in tiff.pages:
            for code in draw.sample(sorted(worse), 2):
                if code in page.tags and draw.random() < 0.6:
                    page.tags[code].overwrite(draw.choice(worse[code]))


def mutate(data: bytes, draw: random.Random, text: bool = False) -> bytes:
    """Return the bytes spoilt in one to four ways; of text, half the time only whole words are."""
    if text and draw.random() < 0.5:
        return _reworded(data, draw)
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        # the head of a file says most
        reach = len(out) if draw.random() < 0.5 else min(len(out), 2048)
        at = draw.randrange(reach) if reach else 0
        way = draw.randrange(7)
        if way == 0 and out:
            out[at] ^= 1 << draw.randrange(8)
        elif way == 1 and out:
            out[at : at + draw.randint(1, 8)] = draw.randbytes(draw.randint(0, 8))
        elif way == 2:
            del out[at : at + draw.choice([1, 16, 512, len(out)])]
        elif way == 3:
            out[at:at] = out[at : at + draw.choice([4, 64, 4096])]
        elif way == 4:
            out[at:at] = draw.choice(WORSE)
        elif way == 5:
            out[at : at + 4] = draw.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"])
        else:
            end = at + draw.choice([8, 256, 8192])
            out[at:end] = draw.randbytes(len(out[at:end]))
    return bytes(out)


def _reworded(data: bytes, draw: random.Random) -> bytes:
    """Swap, drop or double words and lines: the form stays, the sense does not."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        words = list(_WORD.finditer(data))
        if not words:
            break
        one, other = draw.choice(words), draw.choice(words)
        new = draw.choice([draw.choice(WORSE), other.group(), one.group() * 2, b"",
                           b"%.3g" % draw.uniform(-1e6, 1e6)])  # fmt: skip
        data = data[: one.start()] + new + data[one.end() :]
        if draw.random() < 0.3:
            lines = data.splitlines(keepends=True)
            lines.insert(draw.randrange(len(lines) + 1), draw.choice(lines))
            data = b"".join(lines)
    return data
