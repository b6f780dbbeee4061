"""The same start in PyTorch: raw IDX files, the Fashion-MNIST network, one trained step. usage: peer_startup.py FOLDER [--compile]"""
import os
import sys

import torch
import peer_networks as nets


def idx(name, header):
    with open(os.path.join(sys.argv[1], name), "rb") as file:
        return torch.frombuffer(bytearray(file.read())[header:], dtype=torch.uint8)


torch.manual_seed(1)
images = idx("train-images-idx3-ubyte", 16).view(-1, 1, 28, 28)
labels = idx("train-labels-idx1-ubyte", 8)
picked = torch.randperm(len(labels))[:64]
x, y = (images[picked].float() / 255 - 0.2860) / 0.3530, labels[picked].long()
net = nets.fashion(lambda: nets.LIF(4))
opt = torch.optim.Adam(net.parameters(), lr=1e-3)
parameters = nets.regularised(net)


def loss_of(x, y):
    return nets.trt(net(x.repeat(4, 1, 1, 1)).view(4, 64, 10), y, parameters, nets.regulariser_loop)


core = torch.compile(loss_of) if "--compile" in sys.argv else loss_of
opt.zero_grad()
loss = core(x, y)
loss.backward()
opt.step()
print("step", loss.item(), flush=True)
