#!/usr/bin/env python3
"""Times ours and the peers alternately. cpu.sh and gpu.sh prepare the environment and call: drive.py OUT.jsonl CASE ...

One process per variant, alive for the whole case: it warms up, then waits. A round lets ours and every peer run in turn, so that all see the
same machine. A peer that is slower than SCREEN times the best of its class after warm-up is stopped there, and its row says so."""
import gzip
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time

import table

HERE = os.path.dirname(os.path.abspath(__file__))
WORK = os.environ["BENCH_WORK"]
MOONSPIKE = os.environ["MOONSPIKE"]
PYTHONS = {"new": os.environ.get("PYTHON"), "debian": os.environ.get("PYTHON_DEBIAN")}
ROUNDS = int(os.environ.get("ROUNDS", 5))
TURN = float(os.environ.get("TURN", 0.5))  # seconds that a variant runs in its turn, at least one step
SCREEN = float(os.environ.get("SCREEN", 1.3))
LIMIT = float(os.environ.get("LIMIT", 400))  # seconds until a worker must have answered
BUDGET = float(os.environ.get("BUDGET", "inf"))  # seconds for everything: what would begin after them is left out
RESERVE = 60  # of them for the rounds
BEGIN = time.monotonic()
PEERS = os.environ.get("PEERS", ".")
DEVICE = os.environ.get("DEVICE", "cpu")
LOSS = os.environ.get("LOSS")
VERBOSE = os.environ.get("VERBOSE") == "1"
FLAGS = {"cl": "--channels-last", "hoist": "--hoist", "flat": "--flat", "freeze": "--freeze", "compiled": "--compile",
         "published": "--precision=fp16", "graph": "--graph", "sjnative": "--neuron=sjnative", "sjtriton": "--neuron=sjtriton", "ann": "--neuron=ann",
         "sj": "--neuron=sj", "sjf": "--neuron=sjf", "snn": "--neuron=snn"}

# What a peer's name means: a Python, then flags. Compiled ones stand in a class of their own.
EAGER = ["new", "new cl", "debian", "debian cl", "new sj cl", "new snn cl"]
COMPILED = ["new compiled hoist cl", "new compiled hoist", "new compiled sjf cl"]
# A clean rewrite in eager mode: first layer once, flat regulariser.
FASHION = EAGER + ["new hoist flat cl", "new compiled hoist flat", "new compiled hoist flat cl", "new compiled hoist", "new compiled sj flat",
                   "new compiled sjf flat", "new compiled snn flat"]
INFERENCE = ["new", "new cl", "debian", "debian cl", "new sj", "new compiled hoist", "new compiled hoist cl", "new compiled hoist cl freeze"]
LIF = ["new", "debian", "new sj", "new snn", "new compiled", "new compiled sjf", "new compiled snn"]
REGULARISER = ["new", "debian", "new flat", "new compiled", "new compiled flat"]

# On a GPU. The published code: a loop over t, automatic mixed precision in float16, the regulariser's loop; ann: what PyTorch needs for the
# same network with ReLU, a floor for every spiking one.
# The strongest of each kind first, for runs on a budget.
GPU = ["new sjtriton flat cl", "new compiled hoist flat cl", "new hoist flat cl", "new compiled hoist flat cl graph", "new sjnative flat",
       "new compiled ann hoist flat cl", "new compiled sjf hoist flat cl", "new sjtriton flat", "new flat cl", "new"]
GPU_NETWORKS = ["resnet19.T4", "resnet19.T6", "vggsnn.T10", "sew34.T4"]

# case -> [(label, worker's case, precision, peers)]
CASES = {
    "resnet19": [(f"resnet19.{p}", "resnet19", p, EAGER + COMPILED) for p in ("fp32", "bf16")],
    "vggsnn": [(f"vggsnn.{p}", "vggsnn", p, EAGER + COMPILED) for p in ("fp32", "bf16")],
    "fashion": [(f"fashion.{p}", "fashion", p, FASHION) for p in ("fp32", "bf16")],
    "lif": [("lif", "lif", "fp32", LIF)],
    "conv": [("conv", "conv", "fp32", ["new", "new cl", "debian", "debian cl"])],
    "regulariser": [("regulariser", "regulariser", "fp32", REGULARISER)],
    "inference": [(f"infer.{n}", f"infer.{n}", "fp32", INFERENCE) for n in ("fashion", "resnet19")],
}
CASES.update({f"gpu.{n}": [(f"gpu.{n}.{p}", n, p, (["new published"] if p == "bf16" else []) + GPU) for p in ("bf16", "tf32", "fp32")]
              for n in GPU_NETWORKS})
CASES["gpu.resnet19.T6"].append(("gpu.resnet19.T6.bf16.cublas", "resnet19.T6", "bf16", []))  # a GPU without cuDNN
MEMORY = [(f"{n}.fp32", n, "fp32", ["new", "new cl", "debian cl", "new compiled hoist cl"]) for n in ("resnet19", "vggsnn")]
CASES.update({job[0]: [job] for jobs in list(CASES.values()) for job in jobs})  # resnet19.bf16 alone
ORDER = ["lif", "regulariser", "conv", "startup", "fashion", "inference", "resnet19", "vggsnn"]


def class_of(case, peer):
    if case == "regulariser":  # the published loop against every better way of writing it
        return "eager" if peer in ("new", "debian") else "compiled"
    if "published" in peer or "ann" in peer:
        return peer.split()[-1] if "published" in peer else "ann"
    return "compiled" if "compiled" in peer else "eager"


def left():
    return BUDGET - (time.monotonic() - BEGIN)


def until_rounds():
    """Seconds that a worker may take for an answer before the rounds, which are left their time."""
    return max(1, min(LIMIT, left() - RESERVE))


class Failed(Exception):
    pass


class Worker:
    def __init__(self, name, command):
        self.name, self.log = name, os.path.join(WORK, "stderr.log")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        self.about = None

    def answer(self, limit):
        ready, _, _ = select.select([self.process.stdout], [], [], limit)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            self.close()
            with open(self.log, errors="replace") as log:
                last = (log.read().strip().splitlines() or [""])[-1]
            raise Failed(f"no answer within {limit:.0f} s" if not ready else f"ended: {last[:160]}")
        return json.loads(line)

    def start(self):
        self.about = self.answer(until_rounds())
        if "unavailable" in self.about:
            self.close()
            raise Failed(self.about["unavailable"])
        return self.about

    def run(self, bench, n, limit=LIMIT):
        self.process.stdin.write(f"run {bench} {n}\n".encode())
        self.process.stdin.flush()
        return self.answer(limit)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def peer_command(peer, case, precision, weights):
    python, *flags = peer.split()
    if not PYTHONS[python] or not re.search(PEERS, peer):
        return None
    more = ["--device", DEVICE] + (["--loss", LOSS] if LOSS else [])
    return [PYTHONS[python], os.path.join(HERE, "peer.py"), case, "--precision", precision, "--weights", weights] + more + [FLAGS[f] for f in flags]


class Record:
    """Lines of the result file."""

    def __init__(self, path):
        self.path = path

    def write(self, **entry):
        with open(self.path, "a") as file:
            file.write(json.dumps(entry) + "\n")

    def times(self, case, variant, kind, about, got, bench, **more):
        def pick(key):
            value = about.get(key)
            return value.get(bench) if isinstance(value, dict) else value
        self.write(kind="times", case=case, variant=variant, times=got["times"], rss=about["rss"], rss_step=got["rss_step"],
                   device_peak=got.get("device_peak"),
                   flops=pick("flops"), bytes=pick("bytes"), **{"class": kind}, **more)


def compare_losses(case, precision, ours, name, theirs):
    """Equal weights and inputs must give the loss of ours, up to rounding and the spikes that it flips: on VGGSNN the two layouts of
    one PyTorch differ by 1.3 %, and float64 lies between them."""
    if not ours.get("losses") or not theirs.get("losses"):
        return
    a, b = ours["losses"], theirs["losses"]
    scale, allowed = max(map(abs, a)), 2e-2 if precision == "fp32" else 1e-1
    if case.startswith("infer"):
        far = max(abs(x - y) for x, y in zip(a, b)) / scale
    else:
        far = abs(a[0] - b[0]) / scale
    if far > allowed:
        print(f"   WARNING {name}: first loss {b[0]:.6g}, ours {a[0]:.6g} ({far:.1e} of the largest)")


def introduce(name, about):
    text = []
    if about.get("losses"):
        text.append("losses " + " ".join(f"{v:.5f}" for v in about["losses"][:3]))
    if about.get("parameters"):
        text.append(f"{about['parameters']} parameters")
    if "graphs" in about:
        text.append(f"{about['graphs']} graphs, {about['graph_breaks']} breaks")
    print(f"   {name}: {', '.join(text) or 'ready'}", flush=True)
    if about.get("rates") and (VERBOSE or name == "ours"):
        print("   firing rates " + " ".join(f"{r:.3f}" for r in about["rates"]), flush=True)
    if VERBOSE and about.get("engines"):
        print(about["engines"], flush=True)


def benches_of(case, about):
    """What this worker can run: name of the bench -> (case in the table, variant)."""
    if case == "lif":
        return {"T4": "lif.T4", "T16": "lif.T16"}
    if case == "conv":
        return {name: f"conv.{name}" for name in sorted(about["flops"]) if not name.endswith(".dense")}
    return {"step": None}


def turns(worker, bench):
    """How many runs fill a turn."""
    least = min(worker.run(bench, 2)["times"])
    return max(1, min(50, int(TURN / least)))


def measure(record, label, case, precision, peers, rounds, screen=True):
    print(f"\n-- {label}", flush=True)
    if left() < RESERVE:
        print("   not tried, the time is up")
        return
    weights = os.path.join(WORK, f"{case}.safetensors")
    alive, best = [], {}
    try:
        engine = ["cublas"] if label.endswith(".cublas") else []
        ours = Worker("ours", [MOONSPIKE, os.path.join(HERE, "step.lua"), case, precision, weights] + engine)
        try:
            introduce("ours", ours.start())
        except Failed as why:
            print(f"   ours: not available: {why}")
            return
        alive.append((ours, "ours"))
        benches = benches_of(case, ours.about)
        screen = screen and len(benches) == 1
        for peer in peers:
            command = peer_command(peer, case, precision, weights)
            if not command:
                continue
            if left() < RESERVE:
                print(f"   {peer}: not tried, the time is up")
                continue
            worker, kind = Worker(peer, command), class_of(case, peer)
            try:
                introduce(peer, worker.start())
                if worker.about.get("graph_breaks"):
                    print(f"   {peer}: skipped, the compiler breaks the graph: {worker.about['why'][0].splitlines()[0]}")
                    worker.close()
                    continue
                compare_losses(case, precision, ours.about, peer, worker.about)
                if screen:
                    got = worker.run("step", 2, until_rounds())
                    least = min(got["times"])
                    if least > SCREEN * best.get(kind, float("inf")):
                        record.times(label, peer, kind, worker.about, got, "step", screened=True, note="screened after warm-up")
                        worker.close()
                        continue
                    best[kind] = min(least, best.get(kind, least))
                alive.append((worker, kind))
            except Failed as why:
                print(f"   {peer}: not available: {why}")
        run_rounds(record, label, benches, alive, rounds)
    finally:
        for worker, _ in alive:
            worker.close()


def run_rounds(record, label, benches, alive, rounds):
    for bench, named in benches.items():
        case = named or label
        jobs = []
        for worker, kind in alive:
            jobs.append((worker, kind, bench, worker.name, turns(worker, bench)))
            if worker.name == "ours" and bench == "step" and worker.about.get("captured"):
                jobs.append((worker, kind, "captured", "ours captured", turns(worker, "captured")))
            flops = worker.about.get("flops")
            if worker.name == "ours" and isinstance(flops, dict) and bench + ".dense" in flops:
                jobs.append((worker, kind, bench + ".dense", "ours dense", turns(worker, bench + ".dense")))
        for _ in range(rounds):
            for worker, kind, run, name, n in jobs:
                record.times(case, name, kind, worker.about, worker.run(run, n), run)


def startup(record, rounds):
    """Seconds from the start of the process to the line that follows the first step; the first round warms every cache and is dropped."""
    print("\n-- startup", flush=True)
    folder = os.path.join(WORK, "idx")
    os.makedirs(folder, exist_ok=True)
    source = os.environ["FASHION_MNIST"]
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        target = os.path.join(folder, name)
        if not os.path.exists(target):
            path = os.path.join(source, name)
            if not os.path.exists(path) and not os.path.exists(path + ".gz"):
                print(f"   no {name} in {source}: install dataset-fashion-mnist or set FASHION_MNIST")
                return
            with (gzip.open(path + ".gz") if not os.path.exists(path) else open(path, "rb")) as a, open(target, "wb") as b:
                shutil.copyfileobj(a, b)
    commands = {"ours": ("ours", [MOONSPIKE, os.path.join(HERE, "startup.lua"), folder])}
    script = os.path.join(HERE, "peer_startup.py")
    for name, python, more in (("new", "new", []), ("debian", "debian", []), ("new compiled", "new", ["--compile"])):
        if PYTHONS[python] and re.search(PEERS, name):
            commands[name] = (class_of("startup", name), [PYTHONS[python], script, folder] + more)
    for i in range(rounds + 1):
        for name in list(commands):
            kind, command = commands[name]
            with open(os.path.join(WORK, "stderr.log"), "ab") as log:
                start = time.perf_counter()
                process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
                line = process.stdout.readline()
                took = time.perf_counter() - start
                process.communicate()
            if not line.startswith(b"step"):
                print(f"   {name}: not available")
                del commands[name]
            elif i > 0:
                record.write(kind="times", case="startup", variant=name, times=[took], rss=0, rss_step=0, **{"class": kind})
            else:
                print(f"   {name}: first loss {line.split()[1].decode()}")


def peak(record):
    own = os.path.join(WORK, "peak")  # built by cpu.sh
    command = [own] if DEVICE == "cpu" and os.path.exists(own) else [PYTHONS["new"], os.path.join(HERE, "peer.py"), "peak", "--device", DEVICE]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    record.write(kind="peak", peak=json.loads(out))
    return json.loads(out)


def main():
    record, wanted = Record(sys.argv[1]), sys.argv[2:] or ORDER
    unknown = [case for case in wanted if case not in CASES and case not in ("startup", "memory")]
    if unknown:
        sys.exit(f"cpu.sh: unknown case '{unknown[0]}' (known: {', '.join(ORDER)}, memory)")
    print("peak", peak(record))
    for case in wanted:
        start = time.perf_counter()
        if case == "startup":
            startup(record, ROUNDS)
        elif case == "memory":
            for job in MEMORY:
                measure(record, *job, rounds=1, screen=False)
        else:
            for job in CASES[case]:
                measure(record, *job, rounds=ROUNDS)
        print(f"   {time.perf_counter() - start:.0f} s", flush=True)
    peak(record)
    table.show(sys.argv[1])


if __name__ == "__main__":
    main()
