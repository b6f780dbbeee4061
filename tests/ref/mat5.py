#!/usr/bin/env python3
"""Writes events.mat beside it: the arrays of ASL-DVS and some that a reader passes over, compressed by SciPy.

Usage: mat5.py [folder]. Needs numpy and scipy; the file was written by numpy 2.4.6, scipy 1.17.1.
It is committed; no test runs this program.
"""
import sys
from pathlib import Path

import numpy as np
import scipy.io

folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
i = np.arange(1000)[:, None]
scipy.io.savemat(folder / "events.mat", {
    "pol": (i % 3 == 0).astype(np.uint8), "text": "passed over", "ts": (700.0 * i), "complex": np.array([1 + 2j]),
    "cube": np.zeros((2, 3, 4)), "x": (i % 240).astype(np.float32), "y": (i % 180).astype(np.int16),
}, do_compression=True)
