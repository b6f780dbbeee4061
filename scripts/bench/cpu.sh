#!/usr/bin/env bash
# Times ours and PyTorch, SpikingJelly and snnTorch alternately on the CPU of this machine.
# usage: scripts/bench/cpu.sh [case ...]
#   cases   lif regulariser conv startup fashion inference resnet19 vggsnn (all of these without arguments; resnet19.bf16
#           is one precision alone), memory (a quick look at peak memory; resnet19 and vggsnn report it too)
# Variables:
#   MOONSPIKE       our program (build/moonspike)
#   PYTHON          a Python with torch and, where wanted, spikingjelly and snntorch; without it peers.sh makes one in build/peers
#   PYTHON_DEBIAN   a second one, with the distribution's torch (/usr/bin/python3; left out where it has none)
#   THREADS         threads of both sides (all cores), pinned to the first THREADS cores that this shell may use
#   ROUNDS          rounds in which the sides take turns (5), TURN seconds of each turn (0.5)
#   SCREEN          peers slower than this times the best of their class after warm-up take no part in the rounds (1.3)
#   PEERS           regular expression: only these variants, such as '^new (cl|compiled)'
#   VERBOSE=1       firing rates of the peers too, and the engines that ours chose
#   FASHION_MNIST   folder with the IDX files, for startup (/usr/share/datasets/fashion-mnist)
# Results go to build/bench/cpu-*.jsonl; scripts/bench/table.py prints such a file again.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/scripts/bench
case "${1:-}" in -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;; esac

export MOONSPIKE=${MOONSPIKE:-$root/build/moonspike}
export BENCH_WORK=${BENCH_WORK:-$root/build/bench}
export FASHION_MNIST=${FASHION_MNIST:-/usr/share/datasets/fashion-mnist}
mkdir -p "$BENCH_WORK"
[ -x "$MOONSPIKE" ] || { echo "cpu.sh: $MOONSPIKE: no such program; run scripts/build.sh build, or set MOONSPIKE" >&2; exit 1; }

if [ -z "${PYTHON:-}" ]; then
  "$here/peers.sh"
  PYTHON=$root/build/peers/bin/python
fi
PYTHON_DEBIAN=${PYTHON_DEBIAN-/usr/bin/python3}
if [ -n "$PYTHON_DEBIAN" ] && ! "$PYTHON_DEBIAN" -c 'import torch' 2>/dev/null; then
  echo "$PYTHON_DEBIAN has no torch: left out"
  PYTHON_DEBIAN=
fi
export PYTHON PYTHON_DEBIAN

# The same cores and threads for both sides.
cores=$(taskset -cp $$ | sed 's/.*: //' | tr ',' '\n' | awk -F- '{ for (i = $1; i <= ($2 == "" ? $1 : $2); i++) print i }')
threads=${THREADS:-$(wc -l <<<"$cores")}
mask=$(head -n "$threads" <<<"$cores" | paste -sd,)
export OMP_NUM_THREADS=$threads OMP_PROC_BIND=${OMP_PROC_BIND:-true} OMP_PLACES=${OMP_PLACES:-cores}
export TORCHINDUCTOR_CACHE_DIR=$BENCH_WORK/inductor TORCHINDUCTOR_FX_GRAPH_CACHE=1 PYTHONWARNINGS=ignore

"${CC:-cc}" -O3 -march=native -fopenmp "$here/peak.c" -o "$BENCH_WORK/peak"

versions() {
  "$1" - <<'PY'
import importlib, sys
found = ["Python " + sys.version.split()[0]]
for name in ("torch", "spikingjelly", "snntorch"):
    try:
        module = importlib.import_module(name)
    except ImportError:
        continue
    version = getattr(module, "__version__", None)
    if version is None:
        from importlib import metadata
        version = metadata.version(name)
    found.append(f"{name} {version}")
print(", ".join(found))
PY
}
echo "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $threads threads on cores $mask, $(uname -sr), load $(cut -d' ' -f1-3 /proc/loadavg)"
echo "commit $(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown), $(date -u +%FT%TZ), $("${CC:-cc}" --version | head -n 1)"
"$MOONSPIKE" --version
echo "new: $(versions "$PYTHON" 2>/dev/null)"
[ -z "$PYTHON_DEBIAN" ] || echo "debian: $(versions "$PYTHON_DEBIAN" 2>/dev/null)"

: >"$BENCH_WORK/stderr.log"
exec taskset -c "$mask" python3 "$here/drive.py" "$BENCH_WORK/cpu-$(date -u +%Y%m%dT%H%M%S).jsonl" "$@"
