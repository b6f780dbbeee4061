#!/usr/bin/env bash
# Times the training pipeline of a folder of JPEG files (500x375; read, decode, random resized crop, flip, normalise) alternately: ours
# and torchvision's (ImageFolder, PIL, DataLoader), with 1 and with 2 threads. Prints images a second: the median and the range.
# usage: scripts/bench/images.sh
# Variables:
#   PYTHON     a Python with torch and torchvision; without it a virtual environment is made in build/images-venv
#   ROUNDS     rounds in which the sides take turns (5), SECONDS_EACH turn (4)
#   THREADS    numbers of threads ("1 2")
#   FILES      JPEG files (640), SIZE of the crop (224)
#   IMAGES     another folder of images, instead of those that it makes
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
case "${1:-}" in -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;; esac
if [ -z "${PYTHON:-}" ]; then
  PYTHON=$root/build/images-venv/bin/python
  if ! "$PYTHON" -c 'import torchvision' 2>/dev/null; then
    python3 -m venv "$root/build/images-venv"
    read -ra packages <<<"${PACKAGES:-torch torchvision}"
    "$root/build/images-venv/bin/pip" install --quiet "${packages[@]}"
  fi
fi
work=$root/build/bench
folder=${IMAGES:-$work/images-${FILES:-640}}
mkdir -p "$work"
TARGET=bench_images "$root/scripts/build.sh" build
[ -n "${IMAGES:-}" ] || [ -d "$folder" ] || { "$PYTHON" "$root/scripts/bench/images.py" make "$folder.part" "${FILES:-640}" && mv "$folder.part" "$folder"; }

echo "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, $(uname -sr), load $(cut -d' ' -f1-3 /proc/loadavg)"
echo "commit $(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown), $(date -u +%FT%TZ), $("${CC:-cc}" --version | head -n 1)"
echo "ours: libjpeg-turbo $(pkg-config --modversion libjpeg)"
echo "theirs: $("$PYTHON" "$root/scripts/bench/images.py" versions)"
find "$folder" -type f -printf '%s\n' | awk '{ n++; s += $1 } END { printf "%d files of %.1f KiB\n", n, s / n / 1024 }'

seconds=${SECONDS_EACH:-4} size=${SIZE:-224}
for threads in ${THREADS:-1 2}; do
  : >"$work/ours" && : >"$work/theirs"
  for ((i = 0; i < ${ROUNDS:-5}; i++)); do
    "$root/build/bench_images" "$folder" "$threads" "$seconds" "$size" >>"$work/ours"
    "$PYTHON" "$root/scripts/bench/images.py" run "$folder" "$threads" "$seconds" "$size" >>"$work/theirs"
  done
  sort -n "$work/ours" -o "$work/ours" && sort -n "$work/theirs" -o "$work/theirs"
  paste "$work/ours" "$work/theirs" | awk -v threads="$threads" '{ a[NR] = $1; b[NR] = $2 } END { m = int((NR + 1) / 2)
    printf "%d thread%s: ours %.0f images/s (%.0f to %.0f), torchvision %.0f (%.0f to %.0f): %.2f times\n",
      threads, (threads > 1 ? "s" : ""), a[m], a[1], a[NR], b[m], b[1], b[NR], a[m] / b[m] }'
done
