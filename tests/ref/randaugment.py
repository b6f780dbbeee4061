#!/usr/bin/env python3
"""Writes randaugment.inc beside it: crc32 of what Pillow's ops of RandAugment give for an image of a closed form.

Needs Pillow and numpy (the versions used are written into the file). No test runs this program.
"""
import zlib
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageEnhance, ImageOps

H, W = 19, 23
FILL = (124, 116, 104)
FILTERS = [Image.BILINEAR, Image.BICUBIC]


def picture(channels):
    v, data = 1, []
    for _ in range(H * W * channels):
        v = (v * 1664525 + 1013904223) % 2**32
        data.append(40 + (v >> 24) * 3 // 5)
    array = np.array(data, np.uint8).reshape(H, W, channels)
    return Image.fromarray(array if channels == 3 else array[:, :, 0])


def solarize_add(x, add):
    lut = [min(255, v + add) if v < 128 else v for v in range(256)]
    return x.point(lut * len(x.getbands()))


def affine(x, m, f):
    return x.transform(x.size, Image.AFFINE, m, resample=f, fillcolor=fill(x))


def fill(x):
    return FILL if x.mode == "RGB" else FILL[0]


OPS = {
    "autocontrast": (lambda x, v, f: ImageOps.autocontrast(x), [0]),
    "equalize": (lambda x, v, f: ImageOps.equalize(x), [0]),
    "invert": (lambda x, v, f: ImageOps.invert(x), [0]),
    "posterize": (lambda x, v, f: ImageOps.posterize(x, int(v)), [1, 3, 4]),
    "solarize": (lambda x, v, f: ImageOps.solarize(x, int(v)), [0, 100, 153, 256]),
    "solarize_add": (lambda x, v, f: solarize_add(x, int(v)), [0, 66, 110]),
    "color": (lambda x, v, f: ImageEnhance.Color(x).enhance(v), [0.1, 0.7, 1.0, 1.18, 1.9]),
    "contrast": (lambda x, v, f: ImageEnhance.Contrast(x).enhance(v), [0.1, 0.7, 1.18, 1.9]),
    "brightness": (lambda x, v, f: ImageEnhance.Brightness(x).enhance(v), [0.1, 0.7, 1.18, 1.9]),
    "sharpness": (lambda x, v, f: ImageEnhance.Sharpness(x).enhance(v), [0.1, 0.7, 1.18, 1.9]),
    "rotate": (lambda x, v, f: x.rotate(v, resample=f, fillcolor=fill(x)), [-30, -7.25, 0, 18, 29.3]),
    "shear_x": (lambda x, v, f: affine(x, (1, v, 0, 0, 1, 0), f), [-0.3, 0.0625, 0.18]),
    "shear_y": (lambda x, v, f: affine(x, (1, 0, 0, v, 1, 0), f), [-0.3, 0.0625, 0.18]),
    "translate_x": (lambda x, v, f: affine(x, (1, 0, v * x.size[0], 0, 1, 0), f), [-0.45, 0.125, 0.27]),
    "translate_y": (lambda x, v, f: affine(x, (1, 0, 0, 0, 1, v * x.size[1]), f), [-0.45, 0.125, 0.27]),
}

with open(Path(__file__).with_suffix(".inc"), "w") as out:
    out.write(f"/* GOLDEN(op, filter, channels, value, crc32), by tests/ref/randaugment.py with Pillow {PIL.__version__}. */\n")
    for name, (op, values) in OPS.items():
        moves = name == "rotate" or name.startswith(("shear", "translate"))
        for channels in (3, 1):
            for number, mode in enumerate(FILTERS if moves else FILTERS[:1]):
                for value in values:
                    y = np.asarray(op(picture(channels), value, mode))
                    out.write(f"GOLDEN({name}, {number}, {channels}, {value}, 0x{zlib.crc32(y.tobytes()):08x}u)\n")
