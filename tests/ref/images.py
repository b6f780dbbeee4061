"""Writes what the image tests compare with: small JPEG and PNG files (tests/fuzz/corpus/jpeg, png) and, in
tests/c/image_golden.h, the checksums of the pixels that Pillow decodes and resizes.

Run with Pillow 10.4.0 (libjpeg-turbo 3.0.3) and NumPy 1.26.4; Pillow 13 resizes in another order where the height shrinks much more
than the width. usage: images.py"""
import io
import os
import struct
import zlib

import numpy as np
import PIL
from PIL import Image, features

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
rng = np.random.default_rng(5)


def photo(w, h):
    y, x = np.mgrid[0:h, 0:w].astype(float)
    planes = [128 + 100 * np.sin(x / 9 + y / 19), 128 + 100 * np.cos(x / 7 - y / 11), 128 + 90 * np.sin(x * y / 90)]
    return Image.fromarray((np.stack(planes, -1) + rng.normal(0, 6, (h, w, 3))).clip(0, 255).astype(np.uint8))


def png(w, h, depth, colour, rows_of, interlaced, extra=b""):
    """rows_of(y0, dy, x0, dx) gives the packed rows of a pass."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    passes = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)]
    raw = b""
    for y0, dy, x0, dx in passes if interlaced else [(0, 1, 0, 1)]:
        for row in rows_of(y0, dy, x0, dx):
            raw += b"\0" + row if row else b""
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, interlaced)) + extra +
            chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b""))


def whole(a):
    """Rows of an array of unsigned integers, 8 or 16 bits."""
    return lambda y0, dy, x0, dx: [r.astype(a.dtype.newbyteorder(">")).tobytes() for r in a[y0::dy, x0::dx]]


def packed(a, bits):
    def rows(y0, dy, x0, dx):
        part = a[y0::dy, x0::dx]
        return [np.packbits(((r[:, None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8)).tobytes() for r in part]
    return rows


files = {}
im = photo(37, 29)


def save(name, image, **options):
    b = io.BytesIO()
    image.save(b, "PNG" if name.endswith("png") else "JPEG", **options)
    files[name] = b.getvalue()


save("444.jpg", im, quality=80, subsampling=0)
save("422.jpg", im, quality=80, subsampling=1)
save("420.jpg", im, quality=80, subsampling=2)
save("420-progressive.jpg", im, quality=70, subsampling=2, progressive=True)
save("restart.jpg", im, quality=60, subsampling=2, restart_marker_blocks=2)
save("grey.jpg", im.convert("L"), quality=80)
save("cmyk.jpg", im.convert("CMYK"), quality=80, subsampling=0)
cmyk = Image.new("CMYK", (8, 8), (100, 50, 20, 30))
save("cmyk-flat.jpg", cmyk, quality=100, subsampling=0)
turned = Image.Exif()
turned[0x112] = 6
save("turned.jpg", photo(12, 7), quality=80, exif=turned)
save("rgb.png", im.crop((0, 0, 13, 9)))
save("rgba.png", im.crop((0, 0, 13, 9)).convert("RGBA"))
save("palette.png", im.crop((0, 0, 19, 9)).quantize(16), transparency=3)
save("one-bit.png", im.crop((0, 0, 19, 9)).convert("1"))
deep = rng.integers(0, 65536, (9, 11, 4)).astype(np.uint16)
deep[:, :, 0] >>= rng.integers(4, 12, (9, 11)).astype(np.uint16)
files["deep-grey.png"] = png(11, 9, 16, 0, whole(deep[:, :, :1]), 0)
files["deep-rgb.png"] = png(11, 9, 16, 2, whole(deep[:, :, :3]), 1)
files["deep-rgba.png"] = png(11, 9, 16, 6, whole(deep), 0)
files["deep-grey-alpha.png"] = png(11, 9, 16, 4, whole(deep[:, :, :2]), 0)
files["interlaced.png"] = png(13, 9, 8, 2, whole(np.asarray(im.crop((0, 0, 13, 9)))), 1)
four = rng.integers(0, 16, (9, 13))
files["interlaced-4.png"] = png(13, 9, 4, 0, packed(four, 4), 1)
files["grey-2.png"] = png(13, 9, 2, 0, packed(four & 3, 2), 0)


def checksum(image):
    return zlib.crc32(np.ascontiguousarray(image).tobytes())


lines = []
for name in sorted(files):
    folder = os.path.join(root, "fuzz", "corpus", "jpeg" if name.endswith("jpg") else "png")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(files[name])
    image = Image.open(io.BytesIO(files[name]))
    rgb, grey = image.convert("RGB"), Image.open(io.BytesIO(files[name])).convert("L")
    lines.append(f'    {{"{os.path.basename(folder)}/{name}", {image.width}, {image.height}, 0x{checksum(rgb):08x}, '
                 f"0x{checksum(grey):08x}}},")

resized = []
modes = {1: "L", 2: "LA", 3: "RGB", 4: "CMYK"}
filters = {"BILINEAR": Image.BILINEAR, "BICUBIC": Image.BICUBIC}
for c, w, h, to_w, to_h, box in [
        (3, 500, 375, 224, 224, None), (3, 91, 60, 224, 224, None), (3, 50, 37, 50, 20, None), (3, 50, 37, 20, 37, None),
        (3, 1, 1, 5, 4, None), (3, 40, 30, 1, 1, None), (3, 29, 169, 114, 36, None), (3, 60, 50, 24, 24, (3.5, 2.25, 44.75, 41)),
        (1, 128, 128, 48, 48, None), (1, 17, 33, 40, 20, None), (1, 7, 5, 48, 48, None), (1, 70, 50, 33, 31, (0.5, 0.25, 61.5, 49)),
        (2, 128, 128, 48, 48, None), (2, 34, 34, 48, 48, None), (2, 34, 34, 34, 34, None), (4, 61, 47, 30, 55, None)]:
    i = np.arange(h * w * c, dtype=np.uint32)
    a = ((i * np.uint32(2654435761)) >> np.uint32(24)).astype(np.uint8).reshape(h, w, c)
    image = Image.fromarray(a[..., 0] if c == 1 else a, modes[c])
    for name, f in filters.items():
        four = "{0}" if box is None else "{" + ", ".join(map(str, box)) + "}"
        crc = checksum(image.resize((to_w, to_h), f, box=box))
        resized.append(f"    {{{c}, {w}, {h}, {to_w}, {to_h}, MS_FILTER_{name}, {four}, 0x{crc:08x}}},")

with open(os.path.join(root, "c", "image_golden.h"), "w") as f:
    f.write(f"""/* Written by tests/ref/images.py with Pillow {PIL.__version__}, libjpeg-turbo {features.version("libjpeg_turbo")}, NumPy {np.__version__}. */
static const struct {{
  const char *file; /* in tests/fuzz/corpus */
  int64_t w, h;
  uint32_t rgb, grey; /* crc32 of the pixels */
}} decoded[] = {{
{chr(10).join(lines)}
}};

/* byte i of the image is (uint32)(i * 2654435761) >> 24 */
static const struct {{
  int64_t c, w, h, to_w, to_h;
  ms_filter filter;
  double box[4];
  uint32_t crc;
}} resized[] = {{
{chr(10).join(resized)}
}};
""")
