#!/usr/bin/env bash
# Times the training pipelines of data sets, from files or arrays to float batches, ours and the libraries' alternately in one run: samples a
# second with two workers on two cores, the processor's time for a sample, the first batch, memory.
# usage: scripts/bench/data.sh [case ...]
#   cifar         CIFAR-10: crop 4, flip, cutout 16, normalised, batches of 64; torchvision
#   fashion       Fashion-MNIST: crop 4, flip, normalised, batches of 64; torchvision
#   dvs           AEDAT 2.0 recordings of 128 x 128 (about 200,000 events): read, [10, 2, 128, 128] frames of equally many events, flip, roll 5,
#                 batches of 16; SpikingJelly's reading and integration, from these files and from its archives of events
#   dvs.cache     the same frames, made before: our cache, SpikingJelly's npz (compressed, its default, and not), a NumPy memory map of bytes
#   nmnist        ATIS recordings of 34 x 34 (about 5,000 events), batches of 64; nmnist.cache
#   jpeg          a folder of JPEG files of 500 x 375: random resized crop 224, flip, normalised, batches of 64; ImageFolder of torchvision
#   training      (ours alone) the front page's training with 0, 1 and 2 workers, and with one batch again and again
# Variables:
#   MOONSPIKE     our program (build/moonspike)
#   PYTHON        a Python with torch, torchvision, spikingjelly; without it peers.sh makes one in build/peers
#   ROUNDS        rounds in which the sides take turns (5), SECONDS_EACH turn (2)
#   VARIANTS      regular expression: only these, such as '^ours'
#   CIFAR, FASHION_MNIST   folders of the official files; without them ones of the same layout are made
#   DVS, NMNIST, JPEG      numbers of files (300, 3000, 640)
# The files are made in build/bench/data once, by a fixed seed. Results go to build/bench/data-*.jsonl; data.py table FILE prints them again.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/scripts/bench
case "${1:-}" in -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;; esac

export MOONSPIKE=${MOONSPIKE:-$root/build/moonspike}
export BENCH_WORK=${BENCH_WORK:-$root/build/bench}
mkdir -p "$BENCH_WORK/data"
[ -x "$MOONSPIKE" ] || { echo "data.sh: $MOONSPIKE: no such program; run scripts/build.sh build, or set MOONSPIKE" >&2; exit 1; }
if [ -z "${PYTHON:-}" ]; then
  PACKAGES=${PACKAGES:-torch torchvision spikingjelly snntorch} "$here/peers.sh"
  PYTHON=$root/build/peers/bin/python
fi

# Two cores for everybody.
cores=$(taskset -cp $$ | sed 's/.*: //' | tr ',' '\n' | awk -F- '{ for (i = $1; i <= ($2 == "" ? $1 : $2); i++) print i }')
mask=$(head -n 2 <<<"$cores" | paste -sd,)
export OMP_NUM_THREADS=2 PYTHONWARNINGS=ignore

echo "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), cores $mask, $(uname -sr), load $(cut -d' ' -f1-3 /proc/loadavg)"
echo "commit $(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown), $(date -u +%FT%TZ), $("${CC:-cc}" --version | head -n 1)"
echo "$("$MOONSPIKE" --version | sed -n '1s/ *(.*//p'), libjpeg-turbo $(pkg-config --modversion libjpeg 2>/dev/null || echo unknown)"
"$PYTHON" "$here/data.py" versions
exec taskset -c "$mask" "$PYTHON" "$here/data.py" drive "$BENCH_WORK/data-$(date -u +%Y%m%dT%H%M%S).jsonl" "$@"
