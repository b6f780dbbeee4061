#!/usr/bin/env python3
"""One peer of one case. Prints a JSON line about itself, then answers "run NAME N" on stdin with the seconds of N runs, until "quit".
usage: peer.py CASE [--precision fp32|bf16] [--neuron torch|sj|sjf|snn] [--compile] [--channels-last] [--hoist] [--flat] [--weights FILE]
CASE: a network, infer.NETWORK, lif, conv, regulariser"""
import argparse
import contextlib
import json
import sys
import time

import torch
import peer_networks as nets

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("case")
parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
parser.add_argument("--neuron", choices=list(nets.NEURONS), default="torch")
parser.add_argument("--compile", action="store_true")
parser.add_argument("--channels-last", action="store_true")
parser.add_argument("--hoist", action="store_true", help="a static image goes through the first convolution and normalisation once")
parser.add_argument("--flat", action="store_true", help="TRT's regulariser over one flat vector instead of the published loop")
parser.add_argument("--freeze", action="store_true", help="inference: weights are constants for the compiler")
parser.add_argument("--weights", help="safetensors of our side: start from its weights and input")
args = parser.parse_args()
torch.manual_seed(1)
NEW = int(torch.__version__.split(".")[0]) >= 2
regulariser = nets.regulariser_flat if args.flat else nets.regulariser_loop


def say(value):
    print(json.dumps(value), flush=True)


def peak():
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("VmHWM")).split()[1])


def compiled(fn):
    if not args.compile:
        return fn
    if not NEW:
        say({"unavailable": "torch.compile needs PyTorch 2"})
        sys.exit(0)
    if args.freeze:
        from torch._inductor import config
        config.freezing = True
    return torch.compile(fn)


def compiler_report():
    """What torch.compile did: its graphs, breaks and recompilations."""
    if not args.compile:
        return {}
    from torch._dynamo.utils import counters
    breaks = counters["graph_break"]
    return {"graphs": counters["stats"]["unique_graphs"], "graph_breaks": sum(breaks.values()),
            "why": [str(reason)[:200] for reason in list(breaks)[:2]]}


def precision():
    if args.precision == "bf16":
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return contextlib.nullcontext()


def serve(about, benches):
    about.update(rss=peak(), **compiler_report())
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    say(about)
    for line in sys.stdin:
        words = line.split()
        if not words or words[0] != "run":
            break
        run, before, times = *benches[words[1]], []
        for _ in range(int(words[2])):
            if before:
                before()
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        say({"times": times, "rss_step": peak()})


def prepare(name):
    """net, forward(x) -> logits [T, N, 10], x, y, the kind of loss"""
    make, T, static, kind = nets.SPECS[name]
    net = make(lambda: nets.NEURONS[args.neuron](T))
    x, y = nets.load(net, args.weights)
    n = y.shape[0]
    x = x[0] if static else x.flatten(0, 1)
    if args.channels_last:
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)

    def forward(x):
        if static and args.hoist:
            out = net[2:](net[:2](x).repeat(T, 1, 1, 1))
        elif static:
            out = net(x.repeat(T, 1, 1, 1))
        else:
            out = net(x)
        return out.view(T, n, 10)

    return net, forward, x, y, kind


def training(name):
    net, forward, x, y, kind = prepare(name)
    parameters = nets.regularised(net)
    opt = torch.optim.Adam(net.parameters(), lr=1e-3, **({"fused": True} if NEW else {}))
    net.train()

    def loss_of(x, y):
        logits = forward(x)
        return nets.tet(logits, y) if kind == "tet" else nets.trt(logits, y, parameters, regulariser)

    core = compiled(loss_of)

    def step():
        opt.zero_grad(set_to_none=True)
        with precision():
            loss = core(x, y)
        loss.backward()
        opt.step()
        return loss

    about = {}
    if not args.compile:
        with torch.no_grad(), precision():
            kept = {k: v.clone() for k, v in net.state_dict().items() if "running" in k}
            about["rates"] = nets.rates(net, lambda: forward(x))
            net.load_state_dict(kept, strict=False)
    about["losses"] = [step().item() for _ in range(3)]
    about["parameters"] = sum(p.numel() for p in net.parameters())
    serve(about, {"step": (step, None)})


def inference(name):
    net, forward, x, _, _ = prepare(name)
    net.eval()
    core = compiled(forward)

    def step():
        with torch.no_grad(), precision():
            return core(x)

    for _ in range(3):
        logits = step()
    serve({"losses": logits.float().mean(0).flatten().tolist()}, {"step": (step, None)})


def lif():
    benches = {}
    for T in (4, 16):
        x, seed = torch.randn(T * 16, 64, 32, 32, requires_grad=True), torch.randn(T * 16, 64, 32, 32)
        neuron = compiled(nets.NEURONS[args.neuron](T))

        def step(x=x, seed=seed, neuron=neuron):
            x.grad = None
            neuron(x).backward(seed)

        for _ in range(3):
            step()
        benches[f"T{T}"] = (step, None)
    serve({}, benches)


def conv():
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    w = (torch.randn(128, 128, 3, 3) / 34).contiguous(memory_format=layout).requires_grad_()
    fixed, dy = w.detach().clone(), torch.randn(32, 128, 32, 32).contiguous(memory_format=layout)
    benches, held = {}, {}

    def before(x, w):
        x.grad = w.grad = None
        held["y"] = torch.nn.functional.conv2d(x, w, padding=1)

    def backward():
        held["y"].backward(dy)

    def forward(x):
        with torch.no_grad():
            torch.nn.functional.conv2d(x, w, padding=1)

    for rate in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5):
        x = (torch.rand(32, 128, 32, 32) < rate).float().contiguous(memory_format=layout)
        benches[f"fwd.{rate:g}"] = (lambda x=x: forward(x), None)
        benches[f"wgrad.{rate:g}"] = (backward, lambda x=x: before(x, w))
    x = torch.randn(32, 128, 32, 32).contiguous(memory_format=layout).requires_grad_()
    benches["dgrad"] = (backward, lambda: before(x, fixed))
    for run, prepare_run in benches.values():
        if prepare_run:
            prepare_run()
        run()
    serve({}, benches)


def regulariser_alone():
    net = nets.resnet19(lambda: nets.LIF(4))
    nets.load(net, args.weights)
    parameters = nets.regularised(net)
    core = compiled(lambda: regulariser(parameters, 6))

    def step():
        for p in parameters:
            p.grad = None
        value = core()
        value.backward()
        return value

    step()
    serve({"losses": [step().item()]}, {"step": (step, None)})


if args.case.startswith("infer."):
    inference(args.case[6:])
elif args.case in nets.SPECS:
    training(args.case)
else:
    {"lif": lif, "conv": conv, "regulariser": regulariser_alone}[args.case]()
