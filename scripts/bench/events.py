#!/usr/bin/env python3
"""Times reading a recording of CIFAR10-DVS's kind and making frames of it: ours, and SpikingJelly's functions on the same file, in turns.
events.sh prepares the environment and calls: events.py MOONSPIKE FOLDER"""
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np
from spikingjelly.datasets import cifar10_dvs, utils

HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS = int(os.environ.get("ROUNDS", 15))
RUNS = int(os.environ.get("RUNS", 20))  # of ours in each round; SpikingJelly runs twice
EVENTS = int(os.environ.get("EVENTS", 200000))
LIMIT = 2e-3  # seconds that ours may take
moonspike, folder = sys.argv[1:]
recording, frames = os.path.join(folder, "recording.aedat"), os.path.join(folder, "frames")
program = [moonspike, os.path.join(HERE, "events.lua")]

subprocess.run(program + ["make", recording, str(EVENTS)], check=True)
ours = subprocess.Popen(program + ["serve", recording, frames], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
about = json.loads(ours.stdout.readline())
print(f"recording: {about['events']} events, {os.path.getsize(recording)} bytes")


def read():
    return cifar10_dvs._load_origin_data(recording)  # what CIFAR10DVS makes its cache with


def integrate(split):
    return utils.integrate_events_by_fixed_frames_number(read(), split, 10, 128, 128).astype(np.float32)


peers = {"read": read, "number": lambda: integrate("number"), "time": lambda: integrate("time")}
for name in ("number", "time"):
    theirs = integrate(name)
    same = np.array_equal(np.fromfile(f"{frames}.{name}", np.float32).reshape(theirs.shape), theirs)
    print(f"frames by {name} {list(theirs.shape)}: {'the same numbers on both sides' if same else 'DIFFERENT'}")
    if not same:
        sys.exit(1)

cases = ["read", "number", "time", "uint8", "bin48", "trt-code", "trt-paper"]
times = {}


def note(side, name, wall, cpu):
    kept = times.setdefault((side, name), ([], []))
    kept[0].extend(wall)
    kept[1].extend(cpu)


for _ in range(ROUNDS):
    for name in cases:
        ours.stdin.write(f"run {name} {RUNS}\n")
        ours.stdin.flush()
        got = json.loads(ours.stdout.readline())
        note("ours", name, got["wall"], got["cpu"])
        for _ in range(2 if name in peers else 0):
            start, busy = time.perf_counter(), time.process_time()
            peers[name]()
            note("SpikingJelly", name, [time.perf_counter() - start], [time.process_time() - busy])
ours.stdin.write("quit\n")
ours.stdin.close()
ours.wait()


def row(wall, cpu):
    values = min(cpu), statistics.median(cpu), statistics.quantiles(cpu, n=10)[-1], min(wall), statistics.median(wall)
    return " ".join(f"{1e3 * v:9.3f}" for v in values)


# On a machine that others use too, the clock on the wall also counts their turns on this core.
print(f"\n{'milliseconds':12} {'side':14} {'cpu: min':>9} {'median':>9} {'9 of 10':>9} {'wall: min':>9} {'median':>9}")
late = []
for name in cases:
    mine, theirs = times["ours", name], times.get(("SpikingJelly", name))
    print(f"{name:12} {'ours':14} {row(*mine)}")
    if theirs:
        print(f"{'':12} {'SpikingJelly':14} {row(*theirs)}   {statistics.median(theirs[1]) / statistics.median(mine[1]):.1f} times ours")
    if statistics.median(mine[1]) >= LIMIT:
        late.append(name)
print(f"\nasked: median below {1e3 * LIMIT:g} ms of one core: " + ("MISSED by " + ", ".join(late) if late else "met by all"))
