#!/usr/bin/env python3
"""Writes the golden files beside it: inputs rounded to float32, results computed by PyTorch in float64.

Usage: generate.py [folder]. Needs torch and numpy (any version; the ones used are written into each file).
The files are committed; no test runs this program.
"""
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from golden import save

torch.manual_seed(0)
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)


def leaf(*shape, scale=1.0, shift=0.0):
    """A random leaf whose values are float32 numbers."""
    return (torch.randn(*shape) * scale + shift).float().double().requires_grad_()


class Spike(torch.autograd.Function):
    """Heaviside step with a surrogate derivative."""

    @staticmethod
    def forward(ctx, u, kind, alpha, ge):
        ctx.save_for_backward(u)
        ctx.kind, ctx.alpha = kind, alpha
        return ((u >= 0) if ge else (u > 0)).double()

    @staticmethod
    def backward(ctx, g):
        (u,) = ctx.saved_tensors
        a, m = ctx.alpha, u.abs()
        d = {"triangle": lambda: (a - m).clamp(min=0) / a ** 2,
             "rectangle": lambda: a * (m < 1 / (2 * a)).double(),
             "atan": lambda: a / 2 / (1 + (np.pi / 2 * a * u) ** 2),
             "sigmoid": lambda: a * torch.sigmoid(a * u) * (1 - torch.sigmoid(a * u)),
             "qgate": lambda: (a - a * a * m).clamp(min=0)}[ctx.kind]()
        return g * d, None, None, None


class Neuron:
    """h = leak v + gain x + bias, spike, reset; w: PLIF."""

    def __init__(self, leak=0.5, gain=1.0, bias=0.0, th=1.0, v_reset=0.0, soft=False, detach=False, ge=False,
                 surrogate="triangle", alpha=1.0, plif=False, plif_input=True):
        self.__dict__.update(locals())
        self.margin = 1e9

    def step(self, v, x, w=None):
        leak, gain, bias = self.leak, self.gain, self.bias
        if self.plif:
            k = torch.sigmoid(w)
            leak, gain, bias = 1 - k, k if self.plif_input else 1.0, k * (0.0 if self.soft else self.v_reset)
        h = leak * v + gain * x + bias
        self.margin = min(self.margin, (h - self.th).abs().min().item())
        s = Spike.apply(h - self.th, self.surrogate, self.alpha, self.ge)
        r = s.detach() if self.detach else s
        v = h - r * self.th if self.soft else (1 - r) * h + r * self.v_reset
        return s, v

    def run(self, x, v=None, w=None):
        v = torch.zeros_like(x[0]) if v is None else v
        spikes = []
        for x_t in x:
            s, v = self.step(v, x_t, w)
            spikes.append(s)
        return torch.stack(spikes), v


def layers():
    out = {}

    def case(name, y, inputs):
        g = leaf(*y.shape)
        grads = torch.autograd.grad(y, list(inputs.values()), g.detach())
        out[f"{name}.y"], out[f"{name}.g"] = y, g
        for (k, v), d in zip(inputs.items(), grads):
            out[f"{name}.{k}"], out[f"{name}.d{k}"] = v, d

    for name, (n, c, h, w, k, kh, kw, kwargs) in {
            "conv_plain": (2, 3, 7, 6, 5, 3, 3, dict(padding=1)),
            "conv_stride": (3, 4, 9, 7, 6, 3, 3, dict(stride=2, padding=1)),
            "conv_dilation": (2, 3, 9, 9, 4, 3, 3, dict(dilation=2, padding=(2, 1))),
            "conv_groups": (2, 6, 5, 5, 4, 3, 3, dict(groups=2, padding=1)),
            "conv_depthwise": (2, 5, 6, 6, 10, 3, 3, dict(groups=5, padding=1)),
            "conv_point": (2, 7, 4, 4, 33, 1, 1, dict(stride=2)),
            "conv_large": (1, 2, 12, 11, 3, 7, 5, dict(stride=(2, 1), padding=(3, 2)))}.items():
        x, weight, bias = leaf(n, c, h, w), leaf(k, c // kwargs.get("groups", 1), kh, kw, scale=0.3), leaf(k)
        case(name, F.conv2d(x, weight, bias, **kwargs), dict(x=x, w=weight, b=bias))

    x, weight, bias = leaf(3, 4, 9), leaf(5, 9), leaf(5)
    case("linear", F.linear(x, weight, bias), dict(x=x, w=weight, b=bias))

    for name, f, shape in (
            ("avg2", lambda x: F.avg_pool2d(x, 2), (2, 3, 6, 7)),
            ("avg_pad", lambda x: F.avg_pool2d(x, 3, 2, 1), (2, 3, 7, 8)),
            ("avg_nopad", lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), (2, 3, 7, 8)),
            ("avg_ceil", lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), (2, 3, 8, 8)),
            ("max2", lambda x: F.max_pool2d(x, 2), (2, 3, 6, 7)),
            ("max_overlap", lambda x: F.max_pool2d(x, 3, 2, 1), (2, 3, 7, 8)),
            ("adaptive", lambda x: F.adaptive_avg_pool2d(x, (3, 2)), (2, 3, 7, 5))):
        x = leaf(*shape)
        case(name, f(x), dict(x=x))

    for name, shape in (("bn2d", (4, 3, 5, 6)), ("bn1d", (7, 5))):
        x, gamma, beta = leaf(*shape, scale=2, shift=1), leaf(shape[1], shift=1), leaf(shape[1])
        mean, var = leaf(shape[1]).detach(), leaf(shape[1]).detach().abs() + 0.5
        var = var.float().double()
        out[f"{name}.mean0"], out[f"{name}.var0"] = mean.clone(), var.clone()
        out[f"{name}.eval"] = F.batch_norm(x, mean, var, gamma, beta, False)
        y = F.batch_norm(x, mean, var, gamma, beta, True, 0.1)
        out[f"{name}.mean1"], out[f"{name}.var1"] = mean, var
        case(name, y, dict(x=x, gamma=gamma, beta=beta))
    return out


def neurons():
    out = {}
    variants = {
        "trt": Neuron(), "detached": Neuron(detach=True), "soft": Neuron(soft=True),
        "soft_detached": Neuron(soft=True, detach=True), "ge": Neuron(ge=True), "if": Neuron(leak=1.0),
        "v_reset": Neuron(v_reset=-0.25, leak=0.5, gain=0.5, bias=-0.125),
        "threshold": Neuron(th=0.5, leak=0.25),
        "rectangle": Neuron(surrogate="rectangle", alpha=1.0), "atan": Neuron(surrogate="atan", alpha=2.0),
        "sigmoid": Neuron(surrogate="sigmoid", alpha=4.0, detach=True), "qgate": Neuron(surrogate="qgate", alpha=2.0),
        "wide": Neuron(alpha=1.5),
        "plif": Neuron(plif=True, surrogate="atan", alpha=2.0, ge=True, detach=True),
        "plif_noinput": Neuron(plif=True, plif_input=False, surrogate="atan", alpha=2.0),
        "plif_reset": Neuron(plif=True, v_reset=0.25),
    }
    for name, p in variants.items():
        x, v0, w = leaf(5, 3, 17, scale=0.8, shift=0.4), leaf(3, 17, scale=0.3), leaf(1, scale=0.5)
        s, v = p.run(x, v0, w)
        gs, gv = leaf(*s.shape), leaf(*v.shape)
        wanted = [x, v0] + ([w] if p.plif else [])
        grads = torch.autograd.grad([s, v], wanted, [gs.detach(), gv.detach()])
        assert p.margin > 1e-5, (name, p.margin)
        out.update({f"{name}.{k}": t for k, t in dict(x=x, v0=v0, w=w, s=s, v=v, gs=gs, gv=gv).items()})
        out.update({f"{name}.d{k}": g for k, g in zip(("x", "v0", "w"), grads)})
    return out


def trt_loss(logits, y, params, eta=0.05, lam=1e-3, delta=0.25, eps=1e-5):
    total = 0
    for t, o in enumerate(logits):
        onehot = F.one_hot(y, o.shape[1]).double()
        reg = sum((p * p * lam / (1 + (np.exp(delta * t) - 1) * (p.abs() + eps))).sum() for p in params)
        total = total + (1 - eta) * F.cross_entropy(o, y) + eta * F.mse_loss(o, onehot) + reg
    return total / len(logits)


def net():
    """The front page's network, small: conv-BN-LIF-pool twice, then a linear layer; three Adam steps with TRT's loss."""
    out, T, B = {}, 3, 4
    x = torch.rand(B, 1, 8, 8).float().double()
    y = torch.tensor([2, 0, 1, 2])
    params = {"0.weight": leaf(4, 1, 3, 3, scale=0.6), "1.weight": leaf(4, scale=0.1, shift=1), "1.bias": leaf(4, scale=0.3),
              "4.weight": leaf(6, 4, 3, 3, scale=0.4), "5.weight": leaf(6, scale=0.1, shift=1), "5.bias": leaf(6, scale=0.3),
              "9.weight": leaf(3, 24, scale=0.3), "9.bias": leaf(3, scale=0.1)}
    stats = {"1.running_mean": torch.zeros(4), "1.running_var": torch.ones(4),
             "5.running_mean": torch.zeros(6), "5.running_var": torch.ones(6)}
    out.update({"x": x, "y": y, **{f"start.{k}": v.clone() for k, v in params.items()}})
    neuron = Neuron()
    regularised = [p for k, p in params.items() if "bias" not in k]
    opt = torch.optim.Adam(params.values(), lr=1e-2)

    def block(x, i, T):
        z = F.conv2d(x, params[f"{i}.weight"], padding=1)
        z = F.batch_norm(z, stats[f"{i + 1}.running_mean"], stats[f"{i + 1}.running_var"],
                         params[f"{i + 1}.weight"], params[f"{i + 1}.bias"], True, 0.1)
        s, _ = neuron.run(z.view(T, -1, *z.shape[1:]))
        return s

    for step in range(3):
        s1 = block(x.repeat(T, 1, 1, 1, 1).flatten(0, 1), 0, T)
        p1 = F.avg_pool2d(s1.flatten(0, 1), 2)
        s2 = block(p1, 4, T)
        p2 = F.avg_pool2d(s2.flatten(0, 1), 2)
        logits = F.linear(p2.flatten(1), params["9.weight"], params["9.bias"]).view(T, B, 3)
        loss = trt_loss(logits, y, regularised)
        opt.zero_grad()
        loss.backward()
        out.update({f"{step}.s1": s1, f"{step}.s2": s2, f"{step}.logits": logits, f"{step}.loss": loss.reshape(1)})
        out.update({f"{step}.grad.{k}": v.grad.clone() for k, v in params.items()})
        out.update({f"{step}.{k}": v.clone() for k, v in stats.items()})
        opt.step()
        out.update({f"{step}.after.{k}": v.detach().clone() for k, v in params.items()})
    assert neuron.margin > 1e-5, neuron.margin
    return out


def shared_membrane():
    """Two layers whose neurons share one membrane: what layer 1 leaves at t is where layer 2 starts at t, and what layer 2
    leaves is where layer 1 starts at t + 1. Trained by a loop over t with SGD."""
    out, T, B = {}, 4, 5
    x, y = leaf(T, B, 6), torch.tensor([0, 2, 1, 1, 0])
    params = {"a.weight": leaf(8, 6, scale=0.6), "b.weight": leaf(8, 8, scale=0.8), "c.weight": leaf(3, 8, scale=0.7)}
    out.update({"x": x, "y": y, **{f"start.{k}": v.clone() for k, v in params.items()}})
    neuron = Neuron(soft=True)
    opt = torch.optim.SGD(params.values(), lr=0.1, momentum=0.9)
    for step in range(3):
        v, logits = torch.zeros(B, 8), []
        for x_t in x.detach():
            s, v = neuron.step(v, F.linear(x_t, params["a.weight"]))
            s, v = neuron.step(v, F.linear(s, params["b.weight"]))
            logits.append(F.linear(s, params["c.weight"]))
        logits = torch.stack(logits)
        loss = F.cross_entropy(logits.mean(0), y) + 0.1 * (v * v).mean()
        opt.zero_grad()
        loss.backward()
        out.update({f"{step}.logits": logits, f"{step}.v": v, f"{step}.loss": loss.reshape(1)})
        out.update({f"{step}.grad.{k}": p.grad.clone() for k, p in params.items()})
        opt.step()
        out.update({f"{step}.after.{k}": p.detach().clone() for k, p in params.items()})
    assert neuron.margin > 1e-5, neuron.margin
    return out


def optimizers():
    out, steps = {}, 5
    grads = [leaf(7) for _ in range(steps)]
    start = leaf(7)
    out["start"] = start
    out.update({f"grad{i}": g for i, g in enumerate(grads)})
    for name, make in {
            "sgd": lambda p: torch.optim.SGD(p, 0.1), "sgd_wd": lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.01),
            "sgd_momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=5e-4),
            "sgd_dampening": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, dampening=5e-4),
            "sgd_nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
            "adam": lambda p: torch.optim.Adam(p, 1e-2), "adam_wd": lambda p: torch.optim.Adam(p, 1e-2, (0.8, 0.95), 1e-6, 0.1),
            "adamw": lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.1)}.items():
        p = start.detach().clone().requires_grad_()
        opt = make([p])
        for i, g in enumerate(grads):
            p.grad = g.detach().clone()
            opt.step()
            out[f"{name}.{i}"] = p.detach().clone()
    for name, make in {
            "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.5),
            "multistep": lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 5, 6], 0.1),
            "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10, 1e-4),
            "warmup": lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.1, 1.0, 4)}.items():
        opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
        sched, rates = make(opt), []
        for _ in range(11):
            rates.append(opt.param_groups[0]["lr"])
            opt.step()
            sched.step()
        out[f"lr_{name}"] = torch.tensor(rates)
    p = [leaf(3, 4), leaf(5)]
    for q in p:
        q.grad = leaf(*q.shape).detach()
    out.update({f"clip.{i}": q.grad.clone() for i, q in enumerate(p)})
    out["clip.norm"] = torch.nn.utils.clip_grad_norm_(p, 1.5).reshape(1)
    out.update({f"clipped.{i}": q.grad for i, q in enumerate(p)})
    return out


def losses():
    out = {}
    o, y = leaf(4, 6, 5), torch.tensor([0, 4, 2, 2, 1, 3])
    out.update({"o": o, "y": y})
    onehot = F.one_hot(y, 5).double()
    for name, f in {
            "sdt": lambda: F.cross_entropy(o.mean(0), y),
            "sdt_smooth": lambda: F.cross_entropy(o.mean(0), y, label_smoothing=0.1),
            "smse": lambda: F.mse_loss(o.mean(0), onehot),
            "tet": lambda: 0.95 * sum(F.cross_entropy(o_t, y) for o_t in o) / 4 + 0.05 * F.mse_loss(o, torch.ones_like(o)),
            "tet_smooth": lambda: sum(F.cross_entropy(o_t, y, label_smoothing=0.01) for o_t in o) / 4,
            "lts": lambda: F.cross_entropy(o[-1], y),
            "trt": lambda: trt_loss(o, y, [torch.zeros(1)])}.items():
        loss = f()
        out[f"{name}.loss"], out[f"{name}.do"] = loss.reshape(1), torch.autograd.grad(loss, o)[0]
    return out


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    for f in (layers, neurons, net, shared_membrane, optimizers, losses):
        torch.manual_seed(0)
        save(folder / f"{f.__name__}.safetensors", f(), f.__doc__ or f"golden {f.__name__}", "generate", seed="0")


main()
