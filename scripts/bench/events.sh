#!/usr/bin/env bash
# Times reading a recording of an event camera and making frames of it, ours and SpikingJelly's functions on the same file, on one core.
# usage: scripts/bench/events.sh
#   The recording (AEDAT 2.0, 128 x 128, 1.2 s) is made first. number, time: SpikingJelly's splits into [10, 2, 128, 128] float32, whose
#   numbers must agree; bin48: counted directly into 48 x 48; read: the events alone, as tensors or arrays.
# Variables:
#   MOONSPIKE  our program (build/moonspike)
#   PYTHON     a Python with spikingjelly; without it peers.sh makes one in build/peers
#   EVENTS     about how many events (200000); ROUNDS of taking turns (15); RUNS of ours in each (20)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/scripts/bench
case "${1:-}" in -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;; esac
moonspike=${MOONSPIKE:-$root/build/moonspike}
work=${BENCH_WORK:-$root/build/bench}
mkdir -p "$work"
[ -x "$moonspike" ] || { echo "events.sh: $moonspike: no such program; run scripts/build.sh build, or set MOONSPIKE" >&2; exit 1; }
if [ -z "${PYTHON:-}" ]; then
  "$here/peers.sh"
  PYTHON=$root/build/peers/bin/python
fi
core=$(taskset -cp $$ | sed 's/.*: //; s/[,-].*//')
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONWARNINGS=ignore
echo "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), core $core, $(uname -sr), load $(cut -d' ' -f1-3 /proc/loadavg)"
echo "commit $(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown), $(date -u +%FT%TZ)"
"$moonspike" --version
"$PYTHON" -c 'import sys, numpy; from importlib.metadata import version
print("Python", sys.version.split()[0] + ", NumPy", numpy.__version__ + ", spikingjelly", version("spikingjelly"))'
exec taskset -c "$core" "$PYTHON" "$here/events.py" "$moonspike" "$work"
