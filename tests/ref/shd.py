#!/usr/bin/env python3
"""Writes samples in the layout of SHD beside it: shd.h5 (h5py's defaults), shd_chunks.h5 (chunks by gzip and shuffle, two levels of
their index, big-endian numbers) and shd_tables.h5 (PyTables, with which the authors of SHD read theirs).

Usage: shd.py [folder]. Needs h5py and tables; the files were written by h5py 3.16.0, PyTables 3.11.1, NumPy 2.4.6.
They are committed; no test runs this program.
"""
import sys
from pathlib import Path

import h5py
import numpy as np
import tables

folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
times = [[0.0, 0.0009765625, 0.25, 0.70068359375], [], [0.5, 0.125, 0.125, 1.375]]
units = [[0, 699, 12, 350], [], [3, 2, 1, 0]]

with h5py.File(folder / "shd.h5", "w") as f:
    t = f.create_dataset("spikes/times", (3,), dtype=h5py.vlen_dtype(np.float16))
    u = f.create_dataset("spikes/units", (3,), dtype=h5py.vlen_dtype(np.uint16))
    for i in range(3):
        t[i], u[i] = np.array(times[i], np.float16), np.array(units[i], np.uint16)
    f["labels"] = np.array([19, 0, 7], np.uint16)
    f["extra/speaker"] = np.array([0, 1, 2], np.uint16)

with h5py.File(folder / "shd_chunks.h5", "w") as f:
    n, packed = 132, {"compression": "gzip", "shuffle": True}
    t = f.create_dataset("spikes/times", (n,), dtype=h5py.vlen_dtype(np.dtype(">f4")), chunks=(2,))
    u = f.create_dataset("spikes/units", (n,), dtype=h5py.vlen_dtype(np.dtype(">i4")), chunks=(60,), **packed)
    for i in range(n):
        k = np.arange(i % 3)
        t[i], u[i] = (k / 64).astype(">f4"), (5 * i + k).astype(">i4")
    f.create_dataset("labels", data=(np.arange(n) % 20).astype("i1"), chunks=(100,), **packed)

with tables.open_file(folder / "shd_tables.h5", "w") as f:
    packed = tables.Filters(complevel=9, complib="zlib", shuffle=True)
    g = f.create_group("/", "spikes")
    t = f.create_vlarray(g, "times", tables.Float16Atom(), filters=packed, chunkshape=8)
    u = f.create_vlarray(g, "units", tables.UInt16Atom(), filters=packed, chunkshape=8)
    for i in range(3):
        t.append(np.array(times[i], np.float16))
        u.append(np.array(units[i], np.uint16))
    f.create_carray("/", "labels", obj=np.array([19, 0, 7]), filters=packed, chunkshape=(2,))
