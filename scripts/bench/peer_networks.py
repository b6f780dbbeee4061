"""The networks of the benchmark in PyTorch, named and shaped like those of the zoo (networks.lua), with the neurons of their users: a
clean loop over t, SpikingJelly's LIFNode, snnTorch's Leaky."""
import inspect
import json
import math
import os
import struct

import torch
import torch.nn as nn
import torch.nn.functional as F


class Fire(torch.autograd.Function):
    """A spike where u > 0; its gradient the triangle of width 1."""

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx, g):
        return g * (1 - ctx.saved_tensors[0].abs()).clamp(min=0)


class LIF(nn.Module):
    """x [T * N, ...]"""

    def __init__(self, T):
        super().__init__()
        self.T = T

    def forward(self, x):
        v, out = 0.0, []
        for x_t in x.view(self.T, -1, *x.shape[1:]):
            h = v / 2.0 + x_t
            s = Fire.apply(h - 1.0)
            v = (1 - s) * h
            out.append(s)
        return torch.cat(out)


class SpikingJelly(nn.Module):
    """kernel: "triton" or "native" on a GPU, where the library has both; version 1 called native ones cupy."""

    def __init__(self, T, kernel=None):
        super().__init__()
        from spikingjelly.activation_based import neuron, surrogate
        self.T, more = T, {}
        if kernel:
            os.environ["SJ_LIF_CUDA_IMPLEMENTATION"] = kernel
            if "backend" in inspect.signature(neuron.LIFNode).parameters:
                more["backend"] = "cupy" if kernel == "native" else kernel
        self.node = neuron.LIFNode(tau=2.0, decay_input=False, v_threshold=1.0, v_reset=0.0, step_mode="m",
                                   surrogate_function=surrogate.PiecewiseQuadratic(alpha=1.0), **more)

    def forward(self, x):
        self.node.reset()
        return self.node(x.view(self.T, -1, *x.shape[1:])).flatten(0, 1)


class SpikingJellyFunction(nn.Module):
    """The same by that library's function, which torch.compile takes without module state."""

    def __init__(self, T):
        super().__init__()
        from spikingjelly.activation_based import functional, surrogate
        self.T, self.run, self.surrogate = T, functional.lif_multi_step, surrogate.PiecewiseQuadratic(alpha=1.0)

    def forward(self, x):
        x = x.view(self.T, -1, *x.shape[1:])
        v = torch.zeros(x.shape[1:], dtype=torch.float32, device=x.device)
        return self.run(x, v, 2.0, False, 1.0, 0.0, self.surrogate)[0].flatten(0, 1)


def triangle(u, g, spikes):
    return g * (1 - u.abs()).clamp(min=0)


class SnnTorch(nn.Module):
    def __init__(self, T):
        super().__init__()
        import snntorch
        from snntorch import surrogate
        self.T = T
        self.node = snntorch.Leaky(beta=0.5, threshold=1.0, reset_mechanism="zero", reset_delay=False,
                                   spike_grad=surrogate.custom_surrogate(triangle))

    def forward(self, x):
        out, x = [], x.view(self.T, -1, *x.shape[1:])
        mem = torch.zeros_like(x[0])
        for x_t in x:
            s, mem = self.node(x_t, mem)
            out.append(s)
        return torch.cat(out)


NEURONS = {"torch": LIF, "sj": SpikingJelly, "sjf": SpikingJellyFunction, "snn": SnnTorch,
           "sjnative": lambda T: SpikingJelly(T, "native"), "sjtriton": lambda T: SpikingJelly(T, "triton"), "ann": lambda T: nn.ReLU()}


def conv(cin, cout, k, stride=1):
    return nn.Conv2d(cin, cout, k, stride, k // 2, bias=False)


class Wrap(nn.Module):
    """Layers under the name that the published modules give them: module, or module.0, module.1, ..."""

    def __init__(self, *layers):
        super().__init__()
        self.module = layers[0] if len(layers) == 1 else nn.Sequential(*layers)

    def forward(self, x):
        return self.module(x)


def conv_norm(cin, cout, k, stride=1):
    return Wrap(conv(cin, cout, k, stride), nn.BatchNorm2d(cout))


class Conv(nn.Module):
    def __init__(self, cin, cout, k, stride, lif, pool=None):
        super().__init__()
        self.conv2d_layer, self.lif = conv_norm(cin, cout, k, stride), lif()
        self.maxpool2d_layer = nn.Identity() if pool is None else pool

    def forward(self, x, repeat=1):
        y = self.conv2d_layer(x)
        return self.maxpool2d_layer(self.lif(y if repeat == 1 else y.repeat(repeat, 1, 1, 1)))


class Hidden(nn.Module):
    def __init__(self, cin, cout, lif):
        super().__init__()
        self.fc, self.lif = Wrap(nn.Linear(cin, cout)), lif()

    def forward(self, x):
        return self.lif(self.fc(x))


class Residual(nn.Module):
    """sew: a neuron at the end of each branch and none behind the sum."""

    def __init__(self, cin, cout, stride, lif, sew=False):
        super().__init__()
        self.sew, self.downsample_layer = sew, None
        self.conv2d_layer_1, self.lif_1 = conv_norm(cin, cout, 3, stride), lif()
        self.conv2d_layer_2, self.lif_2 = conv_norm(cout, cout, 3), lif()
        if stride != 1 or cin != cout:
            self.downsample_layer = conv_norm(cin, cout, 1, stride)
            if sew:
                self.downsample_layer = nn.Sequential(self.downsample_layer, lif())

    def forward(self, x):
        y = self.conv2d_layer_2(self.lif_1(self.conv2d_layer_1(x)))
        shortcut = x if self.downsample_layer is None else self.downsample_layer(x)
        return self.lif_2(y) + shortcut if self.sew else self.lif_2(y + shortcut)


class Net(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)

    def hoisted(self, x, T):
        """A still image goes through the first convolution and normalisation once."""
        return self.layers[1:](self.layers[0](x, T))


class Pooled(nn.Module):
    """Pooled to 1x1 and flattened: one entry of the published list."""

    def forward(self, x):
        return F.adaptive_avg_pool2d(x, 1).flatten(1)


def resnet19(lif, unit=64):
    """unit: the channels of the stem; the others are multiples of it."""
    layers, cin = [Conv(3, unit, 3, 1, lif)], unit
    for factor, stride in [(2, 1)] * 3 + [(4, 2)] + [(4, 1)] * 2 + [(8, 2), (8, 1)]:
        layers.append(Residual(cin, factor * unit, stride, lif))
        cin = factor * unit
    return Net(*layers, Pooled(), Hidden(cin, 4 * unit, lif), Wrap(nn.Linear(4 * unit, 10)))


def vggsnn(lif, unit=64, size=48):
    layers, cin = [], 2
    for i, factor in enumerate([1, 2, 4, 4, 8, 8, 8, 8]):
        layers.append(Conv(cin, factor * unit, 3, 1, lif, nn.AvgPool2d(2) if i % 2 else None))
        cin = factor * unit
    return Net(*layers, nn.Flatten(), Wrap(nn.Linear(cin * (size // 16) ** 2, 10)))


def fashion(lif):
    return Net(Conv(1, 32, 3, 1, lif, nn.AvgPool2d(2)), Conv(32, 64, 3, 1, lif, nn.AvgPool2d(2)), nn.Flatten(), Wrap(nn.Linear(64 * 7 * 7, 10)))


def sew34(lif):
    layers, cin = [Conv(3, 64, 7, 2, lif, nn.MaxPool2d(3, 2, 1))], 64
    for i, (cout, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
        for j in range(blocks):
            layers.append(Residual(cin, cout, 2 if i and j == 0 else 1, lif, sew=True))
            cin = cout
    return Net(*layers, Pooled(), Wrap(nn.Linear(512, 100)))


# builder, T, a static image, the loss
SPECS = {"resnet19": (resnet19, 4, True, "tet"), "vggsnn": (vggsnn, 10, False, "tet"), "fashion": (fashion, 4, True, "trt"),
         "sew34": (sew34, 4, True, "trt")}


def regulariser_loop(parameters, T, lam=1e-5, delta=0.25, eps=1e-5):
    """TRT's sum of r(t) as published: a loop over t and parameters."""
    total = 0
    for t in range(T):
        for p in parameters:
            total = total + torch.sum(p ** 2 * (lam / (1 + (math.exp(delta * t) - 1) * (p.abs() + eps))))
    return total / T


def regulariser_flat(parameters, T, lam=1e-5, delta=0.25, eps=1e-5):
    """The same over one flat vector."""
    w = torch.cat([p.flatten() for p in parameters])
    b = w.abs() + eps
    return sum((w * w * (lam / (1 + (math.exp(delta * t) - 1) * b))).sum() for t in range(T)) / T


def wide(logits):
    """float32 at least"""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def tet(logits, y, mu=0.05, phi=1.0):
    logits, total = wide(logits), 0
    for o in logits:
        total = total + F.cross_entropy(o, y)
    return (1 - mu) * total / len(logits) + mu * F.mse_loss(logits, torch.full_like(logits, phi))


def trt(logits, y, parameters, regulariser, eta=0.05):
    logits, total = wide(logits), 0
    onehot = F.one_hot(y, logits.shape[-1]).to(logits.dtype)
    for o in logits:
        total = total + (1 - eta) * F.cross_entropy(o, y) + eta * F.mse_loss(o, onehot)
    return total / len(logits) + regulariser(parameters, len(logits))


def regularised(net):
    return [p for name, p in net.named_parameters() if "bias" not in name]


def read_safetensors(path):
    kinds = {"F32": torch.float32, "I64": torch.int64, "BF16": torch.bfloat16}
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header, data = json.loads(file.read(size)), bytearray(file.read())
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            tensors[name] = torch.frombuffer(data[first:last], dtype=kinds[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def load(net, path):
    """Weights of our side into net; its input and labels are returned."""
    tensors = read_safetensors(path)
    weights = {name[4:]: value for name, value in tensors.items() if name.startswith("net.")}
    missing, unexpected = net.load_state_dict(weights, strict=False)
    own = {name for name, _ in net.named_parameters()}
    if unexpected or own & set(missing):
        raise SystemExit(f"weights do not fit: missing {missing}, unexpected {unexpected}")
    return tensors["x"], tensors["y"]


def rates(net, run, kinds=(LIF, SpikingJelly, SpikingJellyFunction, SnnTorch)):
    """The share of ones in each neuron layer's output while run() runs."""
    found, hooks = [], []
    for module in net.modules():
        if isinstance(module, kinds):
            hooks.append(module.register_forward_hook(lambda m, i, o: found.append(o.float().mean().item())))
    run()
    for hook in hooks:
        hook.remove()
    return found
