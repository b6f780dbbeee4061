#!/bin/sh
# Runs the emulation's own test in several orders of threads and streams, which must give equal bits. Then plants one
# mistake after the other and checks that the emulation notices each, and nothing in its healthy twin. Prints TAP; exits 1 when a mistake went unnoticed.
#   faults.sh [folder for what is built]
# CXX is the compiler.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${1:-$(mktemp -d)}
cxx=${CXX:-c++}
flags="-std=c++17 -O1 -g -Wall -Wextra -Wno-unknown-pragmas -ffp-contract=off -fvisibility=hidden
       -fsanitize=address,undefined -fno-sanitize-recover=all -I$root/kernels"
mkdir -p "$build" || exit 1
[ $# -gt 0 ] || trap 'rm -rf "$build"' EXIT

n=0
failed=0
report() { # 0 or 1, name
  n=$((n + 1))
  if [ "$1" = 0 ]; then
    echo "ok $n - $2"
  else
    echo "not ok $n - $2"
    sed 's/^/# /' "$build/log" | head -n 12
    failed=1
  fi
}

compile() { # source, object
  # shellcheck disable=SC2086
  $cxx $flags -x c++ -c "$1" -o "$2" >"$build/log" 2>&1
}

for source in "$root"/kernels/cuda/emu/*.cpp; do
  object=$build/$(basename "$source" .cpp).o
  [ -e "$object" ] && [ -z "$(find "$root/kernels/cuda/emu" -newer "$object")" ] || compile "$source" "$object" || { cat "$build/log"; exit 1; }
done
for program in faults emu_selftest; do
  compile "$root/tests/cuda/$program.cu" "$build/$program.main" || { cat "$build/log"; exit 1; }
  $cxx -fsanitize=address,undefined "$build/$program.main" "$build"/*.o -o "$build/$program" || exit 1
done

first=
result=0
for order in 0 1 7; do
  for lazy in 0 1 2; do
    EMU_DEVICES=2 EMU_ORDER=$order EMU_LAZY=$lazy "$build/emu_selftest" >"$build/log" 2>"$build/log.error" || result=1
    [ $result = 0 ] || break 2
    first=${first:-$(cat "$build/log")}
    [ "$first" = "$(cat "$build/log")" ] || result=1
  done
done
report $result "the emulation by itself, in 9 orders"

# An atomic sum of floats depends on the order of threads: it must not compile.
printf '#include "cuda/gpu.h"\n__global__ void f(float *x) { atomicAdd(x, 1.0f); }\n' >"$build/atomic.cu"
result=0
if compile "$build/atomic.cu" "$build/atomic.tmp" || ! grep -q atomicAdd "$build/log"; then
  result=1
fi
report $result "atomic sum of floats"

# name, what its message says, what is set in the environment. "orders" asks that some order of threads notices.
fault() {
  name=$1
  message=$2
  setting=$3
  seen=1
  quiet=0
  orders=0
  case $setting in orders) setting=EMU_DEVICES=1 orders="0 1 7" ;; esac
  for order in $orders; do
    if ! env EMU_ORDER="$order" "$setting" "$build/faults" "$name" bad >"$build/log" 2>&1 &&
      grep -q "$message" "$build/log"; then
      seen=0
    fi
    env EMU_ORDER="$order" "$setting" "$build/faults" "$name" good >"$build/log.good" 2>&1 || quiet=1
  done
  [ $quiet = 0 ] || cp "$build/log.good" "$build/log"
  [ $seen = 0 ] && [ $quiet = 0 ]
  report $? "$name"
}

none=EMU_DEVICES=1
lazy=EMU_LAZY=1
fault global_write heap-buffer-overflow $none
fault global_read heap-buffer-overflow $none
fault shared_write "out of bounds" $none
fault dynamic_shared heap-buffer-overflow $none
fault misaligned "misaligned address" $none
fault use_after_free "not a device pointer" $none
fault use_after_free "freed before the launch" $lazy
fault use_after_free_in_struct heap-use-after-free $none
fault second_free "free of" $none
fault leak "detected memory leaks" $none
fault host_read use-after-poison $none
fault host_argument "not a device pointer" $none
fault host_argument_in_struct "memory of the host" EMU_ARGS=1
fault copy_direction cudaErrorInvalidValue $none
fault other_device "lies on device 1" EMU_DEVICES=2
fault missing_barrier "wrong result" orders
fault unwritten_shared "wrong result" $none
fault divergent_barrier "others never reach" $none
fault different_barriers "different barriers" $none
fault partial_mask "full mask" $none
fault wrong_index "wrong result" $none
fault large_launch "count_up: a launch of 1280 threads, at most 1000" EMU_THREADS=1000
fault missing_wait "wrong result" $lazy
fault missing_sync "wrong result" $lazy
fault host_freed_early heap-use-after-free $lazy
fault allocated_elsewhere use-after-poison $lazy
fault free_in_capture cudaErrorStreamCapture $none
fault free_in_another_stream_in_capture cudaErrorStreamCapture $none
fault allocation_in_capture cudaErrorStreamCapture $none
fault sync_in_capture cudaErrorStreamCapture $none
fault query_in_capture cudaErrorStreamCapture $none
fault default_stream_in_capture cudaErrorStreamCapture $none
fault replay_after_free "not a device pointer" $none
fault product_aliases "wrong result" $none
fault product_too_small "memory of the stream's device" $none
fault product_misaligned "less aligned" $none

echo "1..$n"
exit $failed
