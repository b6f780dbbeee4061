#!/usr/bin/env python3
"""Writes official.safetensors beside it: one training step and one evaluation of the published TRT code, in float64.

Usage: official.py CLONE [folder]. CLONE: github.com/ZBX05/Temporal-Regularization-Training at 95b5ecb. Needs torch, numpy and what that code
imports (tqdm, tensorboardX). The networks are those of its main.py with a sixteenth of the channels, on small images; its casts to float32
are casts to float64 here. Weights and samples come from a formula (golden.py), with the first seed by which no membrane comes so close
to the threshold that float32 could decide otherwise. A run of the same in float32, as the code is, has to give the same spikes.
"""
import re
import sys
from pathlib import Path

import torch

from golden import fill, filled, save, sketch

clone = Path(sys.argv[1])
sys.path.insert(0, str(clone))
from function import TRT_Loss  # noqa: E402
from model import SNN  # noqa: E402
from neuron import LIFNode  # noqa: E402

# The published name; T; image; samples; tau; still images; lambda (a hundred times the published: the networks are thin), delta, eta.
CASES = {"resnet19": ("ResNet-19", 4, (3, 12, 12), 4, 2.0, True, 1e-3, 0.25, 0.05),
         "vggsnn": ("VGGSNN", 5, (2, 16, 16), 4, 2.0, False, 5e-3, 0.5, 0.001),
         "sew-resnet34-trt": ("SEW-ResNet-34", 4, (3, 32, 32), 4, 1.0, True, 5e-3, 0.5, 0.001)}
CLASSES, MARGIN = 10, 2e-5
AS_WRITTEN = torch.Tensor.float


def topology(name):
    text = (clone / "main.py").read_text()
    published = re.search(rf"args\.topology=='{name}':.*?args\.topology=f'([^']+)'", text, re.S)[1]
    layers = re.sub(r"(?<=[A-Z]-)\d+", lambda width: str(int(width[0]) // 16), published)
    return layers.replace("{args.label_size}", str(CLASSES))


def run(case, seed, dtype):
    name, T, image, n, tau, still, lam, delta, eta = CASES[case]
    torch.set_default_dtype(dtype)
    torch.Tensor.float = torch.Tensor.double if dtype == torch.float64 else AS_WRITTEN
    out, margin, counts = {}, [], {}
    net = SNN(topology(name), T, image, 0.0, "tdBN", 1.0, 0.0, tau, "triangle", 1.0, still, True)
    fill(net, seed)
    for key, lif in net.named_modules():
        if isinstance(lif, LIFNode):
            lif.activate_function = lambda u, *more, fire=lif.activate_function: margin.append(u.abs().min().item()) or fire(u, *more)
            lif.register_forward_hook(lambda _, i, s, key=key: counts.update({key: s.transpose(0, 2).flatten(2).sum(2).T.long()}))
    x = filled(seed * 1000 + 800, (n, *image) if still else (n, T, *image), 0.5, 0.5).to(dtype)
    y = (torch.arange(n) * 3 + 1) % CLASSES
    logits = net(x, True)
    out.update({f"counts.{key}": value for key, value in counts.items()})
    loss = TRT_Loss(net, logits, y, torch.nn.CrossEntropyLoss(), delta, lam, 1e-5, eta)
    loss.backward()
    out.update({"seed": torch.tensor([seed]), "logits": logits.transpose(0, 1), "loss": loss.reshape(1)})
    out.update({f"grad.{key}": sketch(p.grad) for key, p in net.named_parameters()})
    out.update({f"buffer.{key}": sketch(b) for key, b in net.named_buffers() if "running" in key})
    with torch.no_grad():
        out["evaluated"] = net.eval()(x)
    return {key: value.detach().clone() for key, value in out.items()}, min(margin)


def main():
    folder, tensors = Path(sys.argv[2] if len(sys.argv) > 2 else Path(__file__).parent), {}
    for case in CASES:
        seed, margin = 0, 0
        while margin < MARGIN:
            seed += 1
            out, margin = run(case, seed, torch.float64)
        single, _ = run(case, seed, torch.float32)
        worst = 0
        for key, value in out.items():
            if value.dtype == torch.int64:
                assert torch.equal(value, single[key]), key
            else:
                worst = max(worst, ((single[key].double() - value).abs().max() / value.abs().max()).item())
        print(f"{case}: seed {seed}, |h - 1| >= {margin:.1e}, loss {out['loss'].item():.9f}; float32 differs by at most {worst:.1e}, "
              f"spikes {sum(v.sum().item() for k, v in out.items() if k.startswith('counts.'))}")
        tensors.update({f"{case}.{key}": value for key, value in out.items()})
    save(folder / "official.safetensors", tensors, "one step of the published TRT code", "official",
         code="ZBX05/Temporal-Regularization-Training @ 95b5ecb")


main()
