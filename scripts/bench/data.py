#!/usr/bin/env python3
"""The driver of data.sh and its side of the libraries.
data.py drive OUT.jsonl CASE ... | table FILE.jsonl | serve CASE VARIANT FOLDER | versions"""
import gzip
import json
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
WORK = os.environ.get("BENCH_WORK", ".")
MOONSPIKE = os.environ.get("MOONSPIKE", "moonspike")
ROUNDS = int(os.environ.get("ROUNDS", 5))
SECONDS = float(os.environ.get("SECONDS_EACH", 2))
VARIANTS = os.environ.get("VARIANTS", ".")
DATA = os.path.join(WORK, "data")

STILL = ["ours", "ours, resident", "torchvision", "torchvision v2", "whole batches", "whole batches, 2 threads"]
CASES = {
    "cifar": STILL, "fashion": STILL,
    "dvs": ["ours", "SpikingJelly", "SpikingJelly, npz events"],
    "dvs.cache": ["ours", "ours, bytes", "ours, npz", "SpikingJelly", "SpikingJelly, uncompressed", "NumPy memory map"],
    "nmnist": ["ours", "SpikingJelly", "SpikingJelly, npz events"],
    "nmnist.cache": ["ours", "ours, bytes", "ours, npz", "SpikingJelly", "SpikingJelly, uncompressed", "NumPy memory map"],
    "jpeg": ["ours", "torchvision"],
    "training": ["ours, one batch", "ours, 0 workers", "ours, 1 worker", "ours, 2 workers"],
}
TARGETS = {"cifar": 2, "fashion": 2, "dvs": 2, "dvs.cache": 2, "nmnist": 2, "nmnist.cache": 2, "jpeg": 1.3}

# ---- files ----


def once(folder, make):
    """Makes a folder, or nothing where it is there already."""
    if not os.path.exists(folder):
        part = folder + ".part"
        shutil.rmtree(part, ignore_errors=True)
        os.makedirs(part)
        make(part)
        os.rename(part, folder)
    return folder


def make_cifar(folder):
    import numpy as np
    rng = np.random.default_rng(0)
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        records = rng.integers(0, 256, (10000, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(10000) % 10
        records.tofile(os.path.join(folder, name + ".bin"))
    with open(os.path.join(folder, "batches.meta.txt"), "w") as file:
        file.write("airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n")


def make_fashion(folder):
    import numpy as np
    rng = np.random.default_rng(0)
    for name, n in (("train", 60000), ("t10k", 10000)):
        with open(os.path.join(folder, f"{name}-images-idx3-ubyte"), "wb") as file:
            file.write(struct.pack(">IIII", 0x803, n, 28, 28) + rng.integers(0, 256, (n, 28, 28), dtype=np.uint8).tobytes())
        with open(os.path.join(folder, f"{name}-labels-idx1-ubyte"), "wb") as file:
            file.write(struct.pack(">II", 0x801, n) + (np.arange(n) % 10).astype(np.uint8).tobytes())


def make_jpeg(folder, count):
    """Smooth shapes, edges and grain: about 70 KB a file, a little less than ImageNet's of this size."""
    import numpy as np
    from PIL import Image
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:375, 0:500].astype(np.float32)
    for i in range(count):
        planes = []
        grain = rng.normal(0, 9, x.shape)
        for _ in range(3):
            a, b, c, d = rng.uniform(10, 90, 4)
            plane = 128 + 60 * np.sin(x / a + rng.uniform(0, 6)) * np.cos(y / b) + 40 * np.sign(np.sin(x / c + y / d))
            planes.append(plane + grain + rng.normal(0, 5, x.shape))
        path = os.path.join(folder, f"class{i % 10}", f"{i:04d}.jpg")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Image.fromarray(np.stack(planes, -1).clip(0, 255).astype(np.uint8)).save(path, quality=90)


def listed(folder, ending):
    """[(path, label)]"""
    classes = sorted(os.listdir(folder))
    return [(os.path.join(folder, name, file), i) for i, name in enumerate(classes)
            for file in sorted(os.listdir(os.path.join(folder, name))) if file.endswith(ending)]


def beside(folder, target, ending, write):
    """Files made from those of a folder, in a folder of the same structure."""
    for path, _ in listed(folder, ending):
        to = os.path.join(target, os.path.relpath(path, folder))
        os.makedirs(os.path.dirname(to), exist_ok=True)
        write(path, os.path.splitext(to)[0])


def prepare_events(kind, profile, count, read, side):
    import numpy as np
    folder = once(os.path.join(DATA, f"{kind}-{count}"), lambda out: subprocess.run(
        [MOONSPIKE, os.path.join(HERE, "data.lua"), "events", profile, out, str(count)], check=True))
    ending = ".aedat" if kind == "dvs" else ".bin"
    integrate = frames_of(read, side)
    once(folder + ".events", lambda out: beside(folder, out, ending, lambda a, b: np.savez_compressed(b, **read(a))))

    def make_frames(out):
        all = []

        def write(path, to):
            frames = integrate(path)
            all.append(frames.astype(np.uint8))
            np.savez_compressed(to, frames=frames)
            plain = to.replace(out, folder + ".plain", 1)
            os.makedirs(os.path.dirname(plain), exist_ok=True)
            np.savez(plain, frames=frames)
        beside(folder, out, ending, write)
        np.save(folder + ".npy", np.stack(all))
    once(folder + ".frames", make_frames)
    return folder


def folder_of(case):
    kind = case.split(".")[0]
    if kind == "cifar":
        return os.environ.get("CIFAR") or once(os.path.join(DATA, "cifar-10-batches-bin"), make_cifar)
    if kind in ("fashion", "training"):
        there = os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist")
        return there if os.path.isdir(there) else once(os.path.join(DATA, "fashion-mnist"), make_fashion)
    if kind == "jpeg":
        count = int(os.environ.get("JPEG", 640))
        return once(os.path.join(DATA, f"jpeg-{count}"), lambda out: make_jpeg(out, count))
    count = int(os.environ.get(kind.upper(), {"dvs": 300, "nmnist": 3000}[kind]))
    return prepare_events(kind, {"dvs": "rcls", "nmnist": "saccade3"}[kind], count, *reader_of(kind))


# ---- recordings, by SpikingJelly ----


def reader_of(kind):
    if kind == "dvs":
        from spikingjelly.datasets import cifar10_dvs
        return cifar10_dvs._load_origin_data, 128
    from spikingjelly.datasets import utils
    return utils.load_ATIS_bin, 34


def frames_of(read, side):
    from spikingjelly.datasets import utils
    return lambda path: utils.integrate_events_by_fixed_frames_number(read(path), "number", 10, side, side)


def event_samples(case, variant, folder):
    """[(path or place, label)], function that gives float frames [T, 2, H, W]"""
    import numpy as np
    from spikingjelly.datasets import utils
    kind = case.split(".")[0]
    ending = ".aedat" if kind == "dvs" else ".bin"
    read, side = reader_of(kind)
    if case == kind:
        integrate = frames_of(read if variant == "SpikingJelly" else lambda path: dict(np.load(path)), side)
        files = listed(folder, ending) if variant == "SpikingJelly" else listed(folder + ".events", ".npz")
        return files, lambda path: integrate(path).astype(np.float32)
    if variant == "NumPy memory map":
        frames = np.load(folder + ".npy", mmap_mode="r")
        return [(i, label) for i, (_, label) in enumerate(listed(folder, ending))], lambda i: frames[i].astype(np.float32)
    return listed(folder + (".plain" if "uncompressed" in variant else ".frames"), ".npz"), utils.load_npz_frames


def event_loader(case, variant, folder):
    import torch
    samples, load = event_samples(case, variant, folder)
    most = 5 if case.startswith("dvs") else 2

    class Frames(torch.utils.data.Dataset):
        def __len__(self):
            return len(samples)

        def __getitem__(self, i):
            x = torch.from_numpy(load(samples[i][0]))
            if torch.rand(()) < 0.5:
                x = x.flip(-1)
            dy, dx = torch.randint(-most, most + 1, (2,)).tolist()
            return x.roll((dy, dx), (-2, -1)), samples[i][1]

    return torch.utils.data.DataLoader(Frames(), 16 if case.startswith("dvs") else 64, shuffle=True, num_workers=2, persistent_workers=True)


# ---- still images ----

CIFAR_STATS = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
FASHION_STATS = (0.2860,), (0.3530,)


def arrays(case, folder):
    """uint8 [n, c, h, w], labels"""
    import numpy as np
    if case == "cifar":
        all = np.concatenate([np.fromfile(os.path.join(folder, f"data_batch_{i}.bin"), np.uint8).reshape(-1, 3073) for i in range(1, 6)])
        return np.ascontiguousarray(all[:, 1:].reshape(-1, 3, 32, 32)), all[:, 0].astype(np.int64)

    def idx(name, skip):
        path = os.path.join(folder, name)
        with (open(path, "rb") if os.path.exists(path) else gzip.open(path + ".gz")) as file:
            return np.frombuffer(file.read()[skip:], np.uint8)
    return idx("train-images-idx3-ubyte", 16).reshape(-1, 1, 28, 28).copy(), idx("train-labels-idx1-ubyte", 8).astype(np.int64)


def cut_out(x, size):
    """A square of zeros about a random pixel."""
    import torch
    h, w = x.shape[-2:]
    y, z = torch.randint(h, ()).item(), torch.randint(w, ()).item()
    x[..., max(0, y - size // 2):y + size // 2, max(0, z - size // 2):z + size // 2] = 0
    return x


def still_loader(case, variant, folder):
    import torch
    from torchvision import transforms
    from torchvision.transforms import v2
    images, labels = arrays(case, folder)
    mean, std = CIFAR_STATS if case == "cifar" else FASHION_STATS
    hole, side = 16 if case == "cifar" else 0, images.shape[-1]
    last = [lambda x: cut_out(x, hole)] if hole else []
    if variant.startswith("whole batches"):
        return whole_batches(images, labels, mean, std, hole, 0 if "threads" in variant else 2)
    if variant == "torchvision":  # as its data sets: an image of Pillow for each sample
        from PIL import Image
        stored = images.transpose(0, 2, 3, 1).copy() if case == "cifar" else images[:, 0].copy()
        change = transforms.Compose([transforms.RandomCrop(side, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
                                     transforms.Normalize(mean, std)] + last)

        def sample(i):
            return change(Image.fromarray(stored[i]))
    else:
        stored = torch.from_numpy(images)
        change = v2.Compose([v2.RandomCrop(side, padding=4), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True),
                             v2.Normalize(mean, std)] + last)

        def sample(i):
            return change(stored[i])

    class Images(torch.utils.data.Dataset):
        def __len__(self):
            return len(labels)

        def __getitem__(self, i):
            return sample(i), labels[i]

    return torch.utils.data.DataLoader(Images(), 64, shuffle=True, num_workers=2, persistent_workers=True)


def whole_batches(images, labels, mean, std, hole, workers):
    """What a user can write by hand with PyTorch: every sample its own draws, a batch in a few operations."""
    import torch
    side, n, pad = images.shape[-1], len(labels), 4
    padded = torch.nn.functional.pad(torch.from_numpy(images), (pad,) * 4).permute(0, 2, 3, 1).contiguous()
    labels, mean, std = torch.from_numpy(labels), 255 * torch.tensor(mean), 255 * torch.tensor(std)
    line = torch.arange(side)

    class Batches(torch.utils.data.Dataset):
        def __len__(self):
            return n

        def __getitem__(self, at):
            at = torch.as_tensor(at)
            k = len(at)
            rows, columns = torch.randint(2 * pad + 1, (2, k, 1))
            rows, columns = rows + line, columns + torch.where(torch.rand(k, 1) < 0.5, line.flip(0), line)
            x = padded[at[:, None, None], rows[:, :, None], columns[:, None, :]].float().sub_(mean).div_(std)
            if hole:
                y, z = torch.randint(side, (2, k, 1))
                away = lambda v: (line >= v - hole // 2) & (line < v + hole // 2)
                x.masked_fill_((away(y)[:, :, None] & away(z)[:, None, :])[..., None], 0)
            return x.permute(0, 3, 1, 2), labels[at]

    data = Batches()
    order = torch.utils.data.BatchSampler(torch.utils.data.RandomSampler(data), 64, False)
    return torch.utils.data.DataLoader(data, batch_size=None, sampler=order, num_workers=workers, persistent_workers=workers > 0)


def jpeg_loader(folder):
    import torch
    from torchvision import datasets, transforms
    data = datasets.ImageFolder(folder, transforms.Compose([
        transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]))
    return torch.utils.data.DataLoader(data, 64, shuffle=True, num_workers=2, persistent_workers=True)


# ---- a worker of the libraries ----


def say(value):
    print(json.dumps(value), flush=True)


def stream(loader):
    while True:
        yield from loader


def serve(case, variant, folder):
    import torch
    threads = 2 if "2 threads" in variant else 1
    torch.set_num_threads(threads)
    torch.multiprocessing.set_sharing_strategy("file_system")

    def make():
        return (still_loader if case in ("cifar", "fashion") else event_loader)(case, variant, folder) if case != "jpeg" else jpeg_loader(folder)
    batches = stream(make())
    say({"shape": list(next(batches)[0].shape)})
    for line in sys.stdin:
        task, seconds = line.split()[0], float(line.split()[1])
        if task == "first":
            loader = make()
            start = time.perf_counter()
            own = iter(loader)
            next(own)
            say({"wall": time.perf_counter() - start})
            del own, loader
        elif task == "run":
            for _ in range(6):  # what was made ahead while others had their turn
                next(batches)
            say({"begins": True})
            start, n, took = time.perf_counter(), 0, 0
            while took < seconds:
                n += len(next(batches)[1])
                took = time.perf_counter() - start
            say({"samples": n, "wall": took})


# ---- the driver ----


def family(pid):
    """The process and all that it started."""
    found = [pid]
    for one in found:
        try:
            with open(f"/proc/{one}/task/{one}/children") as file:
                found += [int(word) for word in file.read().split()]
        except OSError:
            pass
    return found


def busy(pid):
    """Seconds of the processor that the family had."""
    ticks = 0
    for one in family(pid):
        try:
            with open(f"/proc/{one}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return ticks / os.sysconf("SC_CLK_TCK")


def memory(pid):
    """MiB of the family, where shared pages count in parts."""
    kib = 0
    for one in family(pid):
        try:
            with open(f"/proc/{one}/smaps_rollup") as file:
                kib += int(re.search(r"^Pss:\s*(\d+)", file.read(), re.M).group(1))
        except (OSError, AttributeError):
            pass
    return kib / 1024


class Side:
    def __init__(self, case, variant, folder):
        command = [MOONSPIKE, os.path.join(HERE, "data.lua")] if variant.startswith("ours") else [sys.executable, os.path.abspath(__file__)]
        self.variant = variant
        self.process = subprocess.Popen(command + ["serve", case, variant, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"data.sh: {self.variant}: ended without an answer")
        return json.loads(line)

    def ask(self, what):
        self.process.stdin.write(f"{what} {SECONDS}\n")
        self.process.stdin.flush()
        if what != "run":
            return self.answer()
        self.answer()
        before = busy(self.process.pid)
        got = self.answer()
        got["cpu"] = busy(self.process.pid) - before
        return got

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def drive(out, wanted):
    unknown = [case for case in wanted if case not in CASES]
    if unknown:
        sys.exit(f"data.sh: unknown case '{unknown[0]}' (known: {', '.join(CASES)})")
    for case in wanted or CASES:
        folder = folder_of(case)
        sides = []
        for variant in CASES[case]:
            if re.search(VARIANTS, variant):
                sides.append(Side(case, variant, folder))
                print(f"{case}: {variant}: batches {sides[-1].about['shape']}", flush=True)
        with open(out, "a") as file:
            for _ in range(ROUNDS):
                for side in sides:
                    got = side.ask("run")
                    entry = {"case": case, "variant": side.variant, "first": None if case == "training" else side.ask("first")["wall"],
                             "rate": got["samples"] / got["wall"], "cores": got["cpu"] / got["wall"], "cost": got["cpu"] / got["samples"],
                             "memory": memory(side.process.pid), "load": os.getloadavg()[0]}
                    file.write(json.dumps(entry) + "\n")
        for side in sides:
            side.close()
    table(out)


def table(path):
    cases = {}
    with open(path) as file:
        for line in file:
            entry = json.loads(line)
            cases.setdefault(entry["case"], {}).setdefault(entry["variant"], []).append(entry)
    print(f"\n{'case':13} {'variant':27} {'samples/s':>10} {'lowest':>8} {'highest':>8} {'cores':>6} {'cpu us':>8} {'first ms':>9} {'MiB':>6}")
    verdicts = []
    for case, variants in cases.items():
        rates, costs = {}, {}
        for variant, entries in variants.items():
            rate = sorted(e["rate"] for e in entries)
            cost = statistics.median(e["cost"] for e in entries)
            first = statistics.median(e["first"] for e in entries) if entries[0]["first"] is not None else None
            rates[variant], costs[variant] = statistics.median(rate), cost
            print(f"{case:13} {variant:27} {rates[variant]:10.0f} {rate[0]:8.0f} {rate[-1]:8.0f} "
                  f"{statistics.median(e['cores'] for e in entries):6.2f} {1e6 * cost:8.1f} "
                  f"{'' if first is None else f'{1e3 * first:.1f}':>9} {statistics.median(e['memory'] for e in entries):6.0f}")
        peers = {v: r for v, r in rates.items() if not v.startswith("ours")}
        if peers and "ours" in rates:
            best = max(peers, key=peers.get)
            ratio, goal = rates["ours"] / peers[best], TARGETS[case]
            verdicts.append(f"{case}: {ratio:.2f} times {best}{'' if ratio >= goal else ' MISSED'} (asked {goal:g}); "
                            f"of the processor's time {costs[best] / costs['ours']:.2f} times")
    print("\nours against the best of the others, medians:")
    print("\n".join(verdicts))
    loads = [e["load"] for v in cases.values() for entries in v.values() for e in entries]
    print(f"load of the machine meanwhile: {min(loads):.1f} to {max(loads):.1f}")


def versions():
    import PIL
    from PIL import features
    from importlib.metadata import version
    print(f"Python {sys.version.split()[0]}, " + ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch", "torchvision", "spikingjelly"))
          + f", Pillow {PIL.__version__} with libjpeg-turbo {features.version('libjpeg_turbo')}")


if __name__ == "__main__":
    task, rest = sys.argv[1], sys.argv[2:]
    if task == "drive":
        drive(rest[0], rest[1:])
    elif task == "serve":
        serve(*rest)
    elif task == "table":
        table(rest[0])
    else:
        versions()
