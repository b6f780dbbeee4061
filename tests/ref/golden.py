"""What the generators of golden files share: the file format, and numbers by a formula that Lua computes alike (tests/lua/formula.lua), so
that networks and samples need not be stored."""
import json
import struct

import numpy as np
import torch

KINDS = {torch.float64: "F64", torch.float32: "F32", torch.int64: "I64"}


def save(path, tensors, note, generator, **more):
    """safetensors, by its specification: 64-bit header length, JSON, packed little-endian data."""
    header = {"__metadata__": {"note": note, "torch": torch.__version__, "numpy": np.__version__,
                               "generator": f"tests/ref/{generator}.py", **more}}
    data, offset = [], 0
    for name, t in tensors.items():
        raw = t.detach().contiguous().numpy().tobytes()
        header[name] = {"dtype": KINDS[t.dtype], "shape": list(t.shape), "data_offsets": [offset, offset + len(raw)]}
        data.append(raw)
        offset += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


def uniform(stream, n):
    """Numbers 0 .. n - 1 of a stream, multiples of 2^-23 in [-1, 1): the finaliser of splitmix64 over the counter."""
    z = np.arange(n, dtype=np.uint64) + np.uint64(stream << 32)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def filled(stream, shape, scale=1.0, shift=0.0):
    """A float32 tensor of shift + scale * uniform."""
    return torch.from_numpy((shift + scale * uniform(stream, int(np.prod(shape)))).astype(np.float32)).reshape(shape)


def fill(net, seed):
    """Weights uniform with the variance of kaiming_normal over fan_out (convolutions) or of Linear; gammas around 1. A parameter's stream is
    its place among the sorted names."""
    with torch.no_grad():
        for i, (name, p) in enumerate(sorted(net.named_parameters())):
            if p.dim() == 4:
                scale, shift = (6 / (p.shape[0] * p.shape[2] * p.shape[3])) ** 0.5, 0.0
            elif p.dim() == 2:
                scale, shift = (1 / p.shape[1]) ** 0.5, 0.0
            else:
                scale, shift = 0.2, float(name.endswith("weight"))
            p.copy_(filled(seed * 1000 + i, tuple(p.shape), scale, shift))


def sketch(t):
    """The 2-norm of a tensor and its products with four vectors of the formula: a difference of norm d moves each by about d / 2."""
    flat = t.detach().double().flatten()
    vectors = [torch.from_numpy(uniform(900 + i, flat.numel())) for i in range(4)]
    return torch.stack([flat.norm()] + [flat @ v for v in vectors])
