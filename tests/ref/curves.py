#!/usr/bin/env python3
"""Writes curves.safetensors beside it: 200 steps of Adam with TRT's loss on a thin ResNet-19 and a thin VGGSNN by PyTorch, in float64, and in
float32 with several orders of summation.

Usage: curves.py [folder]. Needs torch and numpy; takes minutes on idle cores. The networks are those of the benchmark
(scripts/bench/peer_networks.py), weights and samples come from a formula (golden.py). A spike is a threshold: once rounding decides one, two
runs part and never meet again. The seed is the first by which that cannot happen in the first STEADY steps, where all runs have to agree; then
the float32 runs show how far PyTorch is from itself.
"""
import sys
from pathlib import Path

import torch

from golden import fill, filled, save, sketch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "bench"))
import peer_networks as peers  # noqa: E402

STEPS, STEADY, MARGIN = 200, 5, 1e-5
T, N, CLASSES, BATCHES = 4, 8, 10, 4
NETWORKS = {"resnet19": (lambda lif: peers.resnet19(lif, 4), (3, 8, 8), True), "vggsnn": (lambda lif: peers.vggsnn(lif, 4, 16), (2, 16, 16), False)}
FORWARD, REVERSED, MIXED = range(N), range(N - 1, -1, -1), [3 * i % N for i in range(N)]
RUNS = {"1 thread": {}, "2 threads": dict(threads=2), "3 threads": dict(threads=3), "without oneDNN": dict(onednn=False),
        "channels last": dict(layout=torch.channels_last), "batch reversed": dict(order=REVERSED),
        "batch reversed, without oneDNN": dict(order=REVERSED, onednn=False), "batch mixed, without oneDNN": dict(order=MIXED, onednn=False)}


class Watched:
    """The spike function, which remembers how close a membrane came to the threshold."""
    fire, margin = peers.Fire.apply, 1.0

    @staticmethod
    def apply(u):
        Watched.margin = min(Watched.margin, u.detach().abs().min().item())
        return Watched.fire(u)


peers.Fire = Watched


def batches(image, still, seed):
    """Samples are the pattern of their class and noise: x [T * N, C, H, W], y."""
    patterns = filled(seed * 1000 + 800, (CLASSES, *image), 0.3, 0.5)
    for i in range(BATCHES):
        y = (torch.arange(N) * 3 + i) % CLASSES
        x = patterns[y] + filled(seed * 1000 + 801 + i, (1 if still else T, N, *image), 0.2)
        yield x.expand(T, -1, -1, -1, -1), y


def train(name, seed, steps=STEPS, dtype=torch.float32, threads=1, onednn=True, layout=torch.contiguous_format, order=FORWARD,
          after=lambda *_: True):
    """The loss of each step; after(step, network) says whether to go on."""
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
    build, image, still = NETWORKS[name]
    net = build(lambda: peers.LIF(T))
    fill(net, seed)
    net.to(memory_format=layout)
    data = [(x[:, list(order)].to(dtype), y[list(order)]) for x, y in batches(image, still, seed)]
    opt, losses = torch.optim.Adam(net.parameters(), lr=1e-3), []
    with torch.backends.mkldnn.flags(enabled=onednn):
        for step in range(steps):
            x, y = data[step % BATCHES]
            logits = net(x.flatten(0, 1).contiguous(memory_format=layout)).view(T, N, CLASSES)
            loss = peers.trt(logits, y, peers.regularised(net), lambda p, T: peers.regulariser_flat(p, T, lam=1e-4))
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(loss.item())
            if not after(step + 1, net):
                break
    return torch.tensor(losses, dtype=torch.float64)


def steady(name, seed):
    Watched.margin = 1.0
    return len(train(name, seed, STEADY + 1, torch.float64, after=lambda *_: Watched.margin > MARGIN)) > STEADY


def main():
    folder, out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent), {}
    for name in NETWORKS:
        seed = next(seed for seed in range(1, 10**6) if steady(name, seed))
        weights = {}

        def keep(step, net):
            if step in (1, STEADY):
                weights.update({f"{name}.{step}.{key}": sketch(t) for key, t in net.state_dict().items() if t.is_floating_point()})
            return True

        exact = train(name, seed, dtype=torch.float64, after=keep)
        out.update({f"{name}.seed": torch.tensor([seed]), f"{name}.float64": exact, **weights})
        out[f"{name}.float32"] = torch.stack([train(name, seed, **options) for options in RUNS.values()])
        print(f"{name}: seed {seed}, loss {exact[0]:.4f} to {exact[-1]:.4f}; furthest from float64 in {STEADY} steps and later")
        for run, losses in zip(RUNS, out[f"{name}.float32"]):
            d = (losses - exact).abs()
            print(f"  {run:32}", " ".join(f"{v:.1e}" for v in [d[:STEADY].max(), d[STEADY:25].max(), *d[25:].view(-1, 25).amax(1)]))
    save(folder / "curves.safetensors", out, "loss of 200 steps by PyTorch", "curves", runs="; ".join(RUNS))


if __name__ == "__main__":
    main()
