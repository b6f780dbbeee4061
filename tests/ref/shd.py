#!/usr/bin/env python3
"""Writes shd.h5, three samples in the layout of SHD.  usage: shd.py   (needs h5py)

The file here was made with h5py 3.16.0, NumPy 2.4.6, Python 3.11."""
import os
import h5py
import numpy as np

times = [[0.0, 0.0009765625, 0.25, 0.70068359375], [], [0.5, 0.125, 0.125, 1.375]]
units = [[0, 699, 12, 350], [], [3, 2, 1, 0]]

with h5py.File(os.path.join(os.path.dirname(os.path.abspath(__file__)), "shd.h5"), "w") as f:
    t = f.create_dataset("spikes/times", (3,), dtype=h5py.vlen_dtype(np.float16))
    u = f.create_dataset("spikes/units", (3,), dtype=h5py.vlen_dtype(np.uint16))
    for i in range(3):
        t[i], u[i] = np.array(times[i], np.float16), np.array(units[i], np.uint16)
    f["labels"] = np.array([19, 0, 7], np.uint16)
    f["extra/speaker"] = np.array([0, 1, 2], np.uint16)
