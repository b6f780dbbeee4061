#!/usr/bin/env python3
"""The same step as fashion.lua in eager PyTorch, written as its users write it: [T * N] batches, a loop over t in the neuron, TRT's
regulariser as the published loop over t and parameters. usage: peer_fashion.py [batch] [steps] [channels_last]"""
import math
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

batch, steps, channels_last = int(sys.argv[1]), int(sys.argv[2]), len(sys.argv) > 3
T, lam, delta, eta, eps = 4, 1e-5, 0.25, 0.05, 1e-5
torch.manual_seed(1)


class Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u > 0).float()

    @staticmethod
    def backward(ctx, g):
        return g * (1 - ctx.saved_tensors[0].abs()).clamp(min=0)


class LIF(nn.Module):
    def forward(self, x):
        v, out = 0.0, []
        for x_t in x.view(T, -1, *x.shape[1:]):
            h = v / 2.0 + x_t
            s = Fire.apply(h - 1.0)
            v = (1 - s) * h
            out.append(s)
        return torch.cat(out)


net = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), LIF(), nn.AvgPool2d(2),
                    nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), LIF(), nn.AvgPool2d(2),
                    nn.Flatten(), nn.Linear(64 * 7 * 7, 10))
opt = torch.optim.Adam(net.parameters(), lr=1e-3)
x, y = torch.randn(batch, 1, 28, 28), torch.randint(0, 10, (batch,))
if channels_last:
    net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)


def step():
    logits = net(x.repeat(T, 1, 1, 1)).view(T, batch, 10)
    onehot, loss = F.one_hot(y, 10).float(), 0
    for t in range(T):
        loss = loss + (1 - eta) * F.cross_entropy(logits[t], y) + eta * F.mse_loss(logits[t], onehot)
        for name, p in net.named_parameters():
            if "bias" not in name:
                loss = loss + (p ** 2 * (lam / (1 + (math.exp(delta * t) - 1) * (p.abs() + eps)))).sum()
    opt.zero_grad()
    (loss / T).backward()
    opt.step()


for _ in range(10):
    step()
times = []
for _ in range(steps):
    start = time.perf_counter()
    step()
    times.append(time.perf_counter() - start)
times.sort()
mid = times[(len(times) - 1) // 2]
print(f"torch {torch.__version__}{' channels_last' if channels_last else ''} {batch / mid:.1f} samples/s  median {mid * 1e3:.2f} ms  "
      f"fastest {times[0] * 1e3:.2f} ms  slowest {times[-1] * 1e3:.2f} ms")
