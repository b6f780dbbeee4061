#!/usr/bin/env python3
"""Writes augment.inc beside it: crc32 of torchvision's rotations and shears (nearest, zero fill) of an image of a closed form.

Needs torch, torchvision and numpy (the versions used are written into the file). No test runs this program.
"""
import zlib
from pathlib import Path

import numpy as np
import torch
import torchvision
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

MODE = InterpolationMode.NEAREST


def picture(h, w):
    return torch.from_numpy((np.arange(h * w, dtype=np.int64) * 37 % 251 + 1).astype(np.uint8).reshape(1, h, w))


with open(Path(__file__).with_suffix(".inc"), "w") as out:
    out.write(f"/* GOLDEN(kind, degrees, h, w, crc32), by tests/ref/augment.py with torchvision {torchvision.__version__}. */\n")
    for h, w in ((48, 48), (32, 32), (33, 47)):
        for degrees in (-30.0, -17.3, -5.0, 0.4, 11.1, 23.9, 30.0):
            x = picture(h, w)
            for kind, y in (
                ("rotate", F.rotate(x, degrees, MODE)),
                ("shear_x", F.affine(x, 0, [0, 0], 1, [degrees, 0], MODE)),
                ("shear_y", F.affine(x, 0, [0, 0], 1, [0, degrees], MODE)),
            ):
                out.write(f"GOLDEN({kind}, {degrees}, {h}, {w}, 0x{zlib.crc32(y.numpy().tobytes()):08x}u)\n")
