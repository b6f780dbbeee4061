#!/usr/bin/env python3
"""Prints what drive.py recorded. usage: table.py FILE.jsonl"""
import json
import statistics
import sys

# case -> ratio asked for against the best eager and the best compiled variant
TARGETS = {
    "resnet19.fp32": (2.0, 1.5), "resnet19.bf16": (1.6, 1.2), "vggsnn.fp32": (1.7, 1.35), "vggsnn.bf16": (1.5, 1.15),
    "fashion.fp32": (4.0, 1.3), "lif.T4": (5.0, 1.5), "lif.T16": (5.0, 1.5), "regulariser": (20.0, None), "startup": (5.0, 5.0),
    "memory": (2.0, 2.0), "gpu": (1.4, 1.0),
}
MOST = {"gpu.resnet19.T6.bf16": 13e-3, "gpu.resnet19.T6.bf16.cublas": 26e-3}  # seconds of a step, on an H200


def seconds(t):
    return f"{t:.3f} s" if t >= 1 else f"{t * 1e3:.2f} ms" if t >= 1e-3 else f"{t * 1e6:.0f} us"


def mebibytes(kib):
    return f"{kib / 1024:.0f} MiB"


def target_of(case):
    return TARGETS.get(case) or TARGETS.get(case.split(".")[0], (None, None))


def read(path):
    """peak, {case: {variant: record}}; a record's times are joined over rounds"""
    peak, cases = {}, {}
    with open(path) as file:
        for line in file:
            entry = json.loads(line)
            if entry["kind"] == "peak":
                peak = {k: max(v, peak.get(k, 0)) for k, v in entry["peak"].items()}
            elif entry["kind"] == "times":
                kept = cases.setdefault(entry["case"], {}).setdefault(entry["variant"], dict(entry, times=[]))
                kept["times"] += entry["times"]
                kept["device_peak"] = max(kept.get("device_peak") or 0, entry.get("device_peak") or 0)
                kept["rss_step"] = max(kept.get("rss_step") or 0, entry.get("rss_step") or 0)
    return peak, cases


def share(record, case, peak, t):
    """Of the peak that binds: products for what multiplies, copying for what moves."""
    if record.get("flops"):
        kind = "fma"
        if case.startswith("gpu."):
            kind = "gpu_bf16" if ".bf16" in case else "gpu_tf32" if case.endswith(".tf32") else "gpu_fp32"
        elif ".bf16" in case:
            kind = "amx" if peak.get("amx") else "bf16" if peak.get("bf16") else "fma"
        return f"{100 * record['flops'] / t / (peak[kind] * 1e9):.0f} % of {kind}" if peak.get(kind) else ""
    if record.get("bytes") and peak.get("copy"):
        return f"{100 * record['bytes'] / t / (peak['copy'] * 1e9):.0f} % of copy"
    return ""


def best(variants, kind, value):
    """The smallest, of those measured in full; screened ones only where there is no other."""
    group = [v for v in variants.values() if v["class"] == kind]
    group = [v for v in group if not v.get("screened")] or group
    return min(group, key=value) if group else None


def versus(ours, peer, value, show, target):
    if not peer:
        return ["-", "-"]
    ratio = value(peer) / value(ours)
    verdict = "" if target is None else f" (asked {target:g}{'' if ratio >= target else ', MISSED'})"
    return [f"{show(value(peer))} {peer['variant']}", f"{ratio:.2f}{verdict}"]


def median(record):
    return statistics.median(record["times"])


def memory(record):
    """Peak of the whole process; for compiled ones after warm-up, so that the compiler's own memory does not count."""
    return record["rss_step"] if record["class"] == "compiled" else max(record["rss"], record["rss_step"])


def grid(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def spreads(cases):
    rows = [["case", "variant", "n", "min", "median", "max", "note"]]
    for case, variants in cases.items():
        for v in variants.values():
            t = v["times"]
            rows.append([case, v["variant"], str(len(t)), seconds(min(t)), seconds(median(v)), seconds(max(t)), v.get("note", "")])
    grid(rows)


def device_rows(peak, case, variants):
    """A step on a GPU, the faster of plain and captured, and its peak memory."""
    ours = best(variants, "ours", median)
    rows = []
    if ours:
        eager, compiled = best(variants, "eager", median), best(variants, "compiled", median)
        goals, most, took = TARGETS["gpu"], MOST.get(case), median(ours)
        verdict = f" (asked {seconds(most)}{'' if took <= most else ', MISSED'})" if most else ""
        rows.append([case + (" captured" if ours["variant"] != "ours" else ""), seconds(took) + verdict]
                    + versus(ours, eager, median, seconds, goals[0]) + versus(ours, compiled, median, seconds, goals[1])
                    + [share(ours, case, peak, median(ours))])
        rows.append([f"memory.{case}", mebibytes(held(ours))] + versus(ours, eager, held, mebibytes, 3.0)
                    + versus(ours, compiled, held, mebibytes, 3.0) + [""])
        for kind, goal in (("published", 6.0), ("ann", None)):
            peer = best(variants, kind, median)
            if peer:
                rows.append([f"{case} against {kind}", seconds(median(ours))] + versus(ours, peer, median, seconds, goal) + ["-", "-", ""])
    return rows


def held(record):
    """Peak device memory in KiB."""
    return (record.get("device_peak") or 1024) / 1024


def summary(peak, cases):
    rows = [["case", "ours", "best eager", "ratio", "best compiled", "ratio", "ours, share of peak"]]
    for case, variants in cases.items():
        ours = variants.get("ours")
        if not ours or case.startswith(("conv.", "gpu.")):
            continue
        goals = target_of(case)
        rows.append([case, seconds(median(ours))]
                    + versus(ours, best(variants, "eager", median), median, seconds, goals[0])
                    + versus(ours, best(variants, "compiled", median), median, seconds, goals[1])
                    + [share(ours, case, peak, median(ours))])
    for case, variants in cases.items():
        if case.startswith("gpu."):
            rows += device_rows(peak, case, variants)
    for case, variants in cases.items():
        ours = variants.get("ours")
        if ours and case.split(".")[0] in ("resnet19", "vggsnn"):
            goals = TARGETS["memory"]
            rows.append([f"memory.{case}", mebibytes(memory(ours))]
                        + versus(ours, best(variants, "eager", memory), memory, mebibytes, goals[0])
                        + versus(ours, best(variants, "compiled", memory), memory, mebibytes, goals[1]) + [""])
    if len(rows) > 1:
        grid(rows)


def convolution(peak, cases):
    """Firing rate by firing rate: what the table chose, our dense engine, the best peer, in dense-equivalent GFLOP/s."""
    rows = [["convolution", "ours", "ours dense", "chosen/dense", "best peer", "ratio", "ours, GFLOP/s", "share of peak"]]
    for case, variants in cases.items():
        ours = variants.get("ours")
        if not ours or not case.startswith("conv."):
            continue
        t, dense, peer = median(ours), variants.get("ours dense"), best(variants, "eager", median)
        against = "-"
        if dense:
            gain = median(dense) / t
            against = f"{gain:.2f}{'' if gain >= 0.97 else ' SLOWER'}"
        rows.append([case, seconds(t), seconds(median(dense)) if dense else "-", against,
                     f"{seconds(median(peer))} {peer['variant']}" if peer else "-", f"{median(peer) / t:.2f}" if peer else "-",
                     f"{ours['flops'] / t * 1e-9:.0f}", share(ours, case, peak, t)])
    if len(rows) > 1:
        print()
        grid(rows)


def show(path):
    peak, cases = read(path)
    print("\n== every variant ==")
    spreads(cases)
    print("\n== median against median; ratio = peer / ours ==")
    print("peak of this machine:", ", ".join(f"{k} {v:g}" for k, v in peak.items()), "(GFLOP/s; copy GB/s)")
    summary(peak, cases)
    convolution(peak, cases)


if __name__ == "__main__":
    show(sys.argv[1])
