#!/usr/bin/env python3
"""One peer of one case. Prints a JSON line about itself, then answers "run NAME N" on stdin with the seconds of N runs, until "quit".
usage: peer.py CASE [--precision fp32|tf32|bf16|fp16] [--neuron torch|sj|sjf|snn|sjnative|sjtriton|ann] [--compile] [--graph] [--channels-last]
               [--hoist] [--flat] [--loss trt] [--device cuda] [--weights FILE]
CASE: a network (resnet19, vggsnn, fashion, sew34; resnet19.T6 for another T), infer.NETWORK, lif, conv, regulariser; peak.
fp16 is automatic mixed precision with a gradient scaler, as the published code trains; ann has ReLU in place of neurons."""
import argparse
import contextlib
import json
import sys
import time

import torch
import peer_networks as nets

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("case")
parser.add_argument("--precision", choices=["fp32", "tf32", "bf16", "fp16"], default="fp32")
parser.add_argument("--neuron", choices=list(nets.NEURONS), default="torch")
parser.add_argument("--compile", action="store_true")
parser.add_argument("--channels-last", action="store_true")
parser.add_argument("--hoist", action="store_true", help="a static image goes through the first convolution and normalisation once")
parser.add_argument("--flat", action="store_true", help="TRT's regulariser over one flat vector instead of the published loop")
parser.add_argument("--freeze", action="store_true", help="inference: weights are constants for the compiler")
parser.add_argument("--graph", action="store_true", help="the whole step as one CUDA graph")
parser.add_argument("--loss", choices=["trt", "tet"], help="another loss than the network's own")
parser.add_argument("--device", default="cpu")
parser.add_argument("--weights", help="safetensors of our side: start from its weights and input")
args = parser.parse_args()
torch.manual_seed(1)
NEW = int(torch.__version__.split(".")[0]) >= 2
CUDA = args.device.startswith("cuda")
if CUDA:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.precision == "tf32"
    torch.backends.cudnn.benchmark = True
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
    return torch.compile(fn, mode="max-autotune-no-cudagraphs") if CUDA else torch.compile(fn)


def synchronize():
    if CUDA:
        torch.cuda.synchronize()


def compiler_report():
    """What torch.compile did: its graphs, breaks and recompilations."""
    if not args.compile:
        return {}
    from torch._dynamo.utils import counters
    breaks = counters["graph_break"]
    return {"graphs": counters["stats"]["unique_graphs"], "graph_breaks": sum(breaks.values()),
            "why": [str(reason)[:200] for reason in list(breaks)[:2]]}


def precision():
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(args.precision)
    if half:
        return torch.autocast("cuda" if CUDA else "cpu", dtype=half)
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
            synchronize()
            start = time.perf_counter()
            run()
            synchronize()
            times.append(time.perf_counter() - start)
        say({"times": times, "rss_step": peak(), "device_peak": torch.cuda.max_memory_allocated() if CUDA else 0})


def prepare(name):
    """net, forward(x) -> logits [T, N, 10], x, y, the kind of loss"""
    name, _, steps = name.partition(".T")
    make, T, static, kind = nets.SPECS[name]
    T, kind = int(steps or T), args.loss or kind
    net = make(lambda: nets.NEURONS[args.neuron](T))
    x, y = nets.load(net, args.weights)
    n = y.shape[0]
    net, x, y = net.to(args.device), x.to(args.device), y.to(args.device)
    x = x[0] if static else x.flatten(0, 1)
    if args.channels_last:
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)

    def forward(x):
        if static and args.hoist:
            out = net.hoisted(x, T)
        elif static:
            out = net(x.repeat(T, 1, 1, 1))
        else:
            out = net(x)
        return out.view(T, n, -1)

    return net, forward, x, y, kind


def training(name):
    net, forward, x, y, kind = prepare(name)
    parameters = nets.regularised(net)
    opt = torch.optim.Adam(net.parameters(), lr=1e-3, **({"fused": True} if NEW else {}), **({"capturable": True} if args.graph else {}))
    net.train()

    def loss_of(x, y):
        logits = forward(x)
        return nets.tet(logits, y) if kind == "tet" else nets.trt(logits, y, parameters, regulariser)

    core = compiled(loss_of)

    scaler = torch.amp.GradScaler("cuda") if args.precision == "fp16" else None

    def step():
        opt.zero_grad(set_to_none=True)
        with precision():
            loss = core(x, y)
        if scaler:
            scaler.scale(loss).backward()
            scaler.step(opt)
            scaler.update()
        else:
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
    serve(about, {"step": (recorded(step, opt) if args.graph else step, None)})


def recorded(step, opt):
    """The step as a CUDA graph, by PyTorch's recipe: warm up on a side stream, then capture."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    opt.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


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


def peak_rates():
    """GFLOP/s of large products by precision, GB/s of a copy: the device's measured peak, best of five."""
    def best(run, work):
        least = float("inf")
        for _ in range(6):
            synchronize()
            start = time.perf_counter()
            run()
            synchronize()
            least = min(least, time.perf_counter() - start)
        return work / least * 1e-9

    n, found = 8192 if CUDA else 1024, {}
    for name, dtype, tf32 in (("gpu_fp32", torch.float32, False), ("gpu_tf32", torch.float32, True), ("gpu_bf16", torch.bfloat16, False)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = torch.randn(n, n, device=args.device, dtype=dtype), torch.randn(n, n, device=args.device, dtype=dtype)
        found[name] = best(lambda: a @ b, 2 * n ** 3)
    x, y = torch.randn(n, n, 8, device=args.device), torch.empty(n, n, 8, device=args.device)
    found["copy"] = best(lambda: y.copy_(x), 2 * x.numel() * 4)
    say(found)


if args.case == "peak":
    peak_rates()
elif args.case.startswith("infer."):
    inference(args.case[6:])
elif args.case.partition(".T")[0] in nets.SPECS:
    training(args.case)
else:
    {"lif": lif, "conv": conv, "regulariser": regulariser_alone}[args.case]()
