#!/usr/bin/env bash
# Times a training step of ours and of PyTorch and SpikingJelly alternately on a GPU.
# usage: scripts/bench/gpu.sh [case ...]
#   cases   gpu.resnet19.T4 gpu.resnet19.T6 gpu.vggsnn.T10 gpu.sew34.T4 (all of these without arguments); each in bf16, tf32 and fp32, T6 also without cuDNN
# Variables:
#   MOONSPIKE     our program (build/moonspike), with the plugin beside it or in MOONSPIKE_PLUGIN
#   PYTHON        a Python with torch, and where wanted spikingjelly with cupy and triton (python3)
#   DEVICE        the device of both sides (cuda; cpu to try the program out)
#   BATCH, SIZE   batch (64) and side of the images (each network's own)
#   BUDGET        seconds for everything (no limit): peers that would begin too late are left out, and named
#   ROUNDS, TURN, SCREEN, PEERS, VERBOSE   as cpu.sh has them
# A turn is timed on the host, from one synchronisation to the next, with the data already on the device.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/scripts/bench
case "${1:-}" in -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;; esac

export MOONSPIKE=${MOONSPIKE:-$root/build/moonspike} PYTHON=${PYTHON:-python3} PYTHON_DEBIAN=
export BENCH_WORK=${BENCH_WORK:-$root/build/bench} DEVICE=${DEVICE:-cuda} BATCH=${BATCH:-64} LOSS=trt
export TORCHINDUCTOR_CACHE_DIR=$BENCH_WORK/inductor PYTHONWARNINGS=ignore
mkdir -p "$BENCH_WORK"
[ -x "$MOONSPIKE" ] || { echo "gpu.sh: $MOONSPIKE: no such program; run scripts/build.sh build -DMS_CUDA=ON, or set MOONSPIKE" >&2; exit 1; }

nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,memory.total --format=csv,noheader 2>/dev/null || true
echo "commit $(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown), $(date -u +%FT%TZ), batch $BATCH, device $DEVICE"
"$MOONSPIKE" --version
"$PYTHON" - <<'PY'
import importlib, sys
print("Python", sys.version.split()[0], end="")
for name in ("torch", "triton", "cupy", "spikingjelly"):
    try:
        print(f", {name} {getattr(importlib.import_module(name), '__version__', '?')}", end="")
    except ImportError:
        pass
print()
PY
: >"$BENCH_WORK/stderr.log"
[ $# -gt 0 ] || set -- gpu.resnet19.T6 gpu.resnet19.T4 gpu.vggsnn.T10 gpu.sew34.T4
exec python3 "$here/drive.py" "$BENCH_WORK/gpu-$(date -u +%Y%m%dT%H%M%S).jsonl" "$@"
