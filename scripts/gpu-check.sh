#!/usr/bin/env bash
# Checks everything on a machine with an NVIDIA GPU that has nvcc, CMake and unpacked libraries: builds, runs the suite on the device, looks for
# bad accesses and races, trains, times. report.txt in the report's folder says on what, and has for each stage its log and a line in TAP.
# usage: scripts/gpu-check.sh [stage ...]      build suite sanitize train bench peers (all of them, in this order)
# Variables:
#   DEPS           folder into which Debian packages (liblua5.4-dev, libreadline-dev, ...) were unpacked by dpkg -x, where they are not installed
#   FASHION_MNIST  folder with its files ($DEPS/usr/share/datasets/fashion-mnist, or as installed)
#   BUILD          build folder (build-gpu), REPORT the report's folder ($BUILD/report), PYTHON a Python with torch (python3)
#   CASE           what "peers" times (gpu.resnet19.T6.bf16; scripts/bench/gpu.sh knows them, and runs all of them without a time limit)
#   EMULATION=1    takes the emulation on the CPU in place of a GPU, at small sizes: shows that no stage has a mistake of its own
set -uo pipefail
cd "$(dirname "$0")/.."
stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=(build suite sanitize train bench peers)
emulation=${EMULATION:-0} build=${BUILD:-build-gpu}
report=${REPORT:-$build/report}
mkdir -p "$build" "$report"
build=$(cd "$build" && pwd) report=$(cd "$report" && pwd)

if [ -n "${DEPS:-}" ]; then
  lib=$DEPS/usr/lib/$(uname -m)-linux-gnu
  export PKG_CONFIG_SYSROOT_DIR=$DEPS PKG_CONFIG_PATH=$lib/pkgconfig:$DEPS/usr/share/pkgconfig CMAKE_PREFIX_PATH=$DEPS/usr
  export LIBRARY_PATH=$lib:$DEPS/lib/$(uname -m)-linux-gnu LD_LIBRARY_PATH=$lib:$DEPS/lib/$(uname -m)-linux-gnu:${LD_LIBRARY_PATH:-}
  export CPATH=$DEPS/usr/include PATH=$PATH:$DEPS/usr/bin LUA_PATH="$DEPS/usr/share/lua/5.4/?.lua;;"
fi
data=${FASHION_MNIST:-${DEPS:-}/usr/share/datasets/fashion-mnist}
export MOONSPIKE_PLUGIN=$build
[ "$emulation" = 0 ] || export MOONSPIKE_PLUGIN=$build/emu
export CMOCKA_MESSAGE_OUTPUT=TAP

about() {
  echo "moonspike $(git describe --always --dirty 2>/dev/null || cat .commit 2>/dev/null || echo unknown), $(date -u +%FT%TZ), $(uname -sr), $(nproc) cores"
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "no nvidia-smi"
  nvcc --version 2>/dev/null | tail -n 2 || true
  python3 - <<'PY'
import ctypes
for library, version in ("libcublasLt.so.13", "cublasLtGetVersion"), ("libcudnn.so.9", "cudnnGetVersion"):
    try:
        print(f"{library}, version {getattr(ctypes.CDLL(library), version)()}")
    except (OSError, AttributeError) as why:
        print(f"{library}: {why}")
PY
}

stage_build() {
  local options=(-DCMAKE_BUILD_TYPE=Release -DMS_CUDA=ON)
  [ "$emulation" = 0 ] || options=(-DCMAKE_BUILD_TYPE=Release -DMS_EMULATION=ON)
  [ ! -f "$build/CMakeCache.txt" ] || options=() # a folder keeps its options
  scripts/build.sh "$build" "${options[@]}" || return 1
  "$build/moonspike" --version
  "$build/moonspike" -e 'for i, d in ipairs(require "moonspike".devices()) do print(d.name, d.description, d.memory) end'
}

# Runs test programs that write TAP and counts; fails when one does.
tap() {
  local good=0 bad=0 log
  log=$(mktemp)
  for test in "$@"; do
    case $test in
    *.lua) MOONSPIKE_DEVICE=cuda timeout 400 "$build/moonspike" "$test" -o TAP >"$log" 2>&1 ;;
    *) timeout 400 "$test" >"$log" 2>&1 ;;
    esac
    local status=$? failures
    failures=$(grep '^not ok' "$log" | grep -vc '# SKIP')
    [ $status -eq 0 ] || [ "$failures" -gt 0 ] || failures=1
    good=$((good + $(grep '^ok' "$log" | grep -vc '# SKIP'))) bad=$((bad + failures))
    if [ "$failures" -gt 0 ]; then
      echo "$test: $failures failed (exit $status)"
      grep -vE '^(ok|1\.\.)' "$log" | head -n 40 | sed 's/^/    /'
    fi
  done
  rm -f "$log"
  echo "$good passed, $bad failed on the device"
  [ "$bad" -eq 0 ] && [ "$good" -gt 0 ]
}

stage_suite() {
  if [ "$emulation" = 0 ]; then
    tap "$build"/tests/test_cuda_* tests/lua/test_*.lua
  else # the test command runs all of them
    tap "$build"/tests/test_cuda_services tests/lua/test_tensor.lua
  fi
}

# One test under one tool; the emulation has sanitizers of its own. The last argument is the seconds that are left.
sanitized() {
  local name log status
  name="$1 $(basename "$2")" log=$report/$1-$(basename "$2").log
  if [ "$3" -le 0 ]; then
    status="not run, the time is up"
  elif [ "$emulation" != 0 ]; then
    timeout "$3" "$2" >"$log" 2>&1 && echo "$name: clean" && return
    status="exit $?"
  else
    timeout "$3" compute-sanitizer --tool "$1" --error-exitcode 9 --print-limit 5 "$2" >"$log" 2>&1 && echo "$name: clean" && return
    status="exit $?"
  fi
  echo "$name: $status"
  [ ! -f "$log" ] || tail -n 15 "$log" | sed 's/^/    /'
  touch "$report/sanitize.failed"
}

stage_sanitize() {
  local begin=$SECONDS limit=440 tests=("$build"/tests/test_cuda_*)
  [ "$emulation" = 0 ] || tests=("$build"/tests/test_cuda_services)
  [ "$emulation" != 0 ] || command -v compute-sanitizer >/dev/null || { echo "no compute-sanitizer"; return 1; }
  rm -f "$report"/sanitize.failed "$report"/memcheck-*.log "$report"/racecheck-*.log
  for tool in memcheck racecheck; do
    for test in "${tests[@]}"; do
      while [ "$(jobs -rp | wc -l)" -ge 4 ]; do sleep 0.2; done
      sanitized $tool "$test" $((limit - (SECONDS - begin))) &
    done
  done
  wait
  [ ! -e "$report/sanitize.failed" ]
}

stage_train() {
  local options=(--epochs 5) least=0.88
  [ "$emulation" = 0 ] || options=(--epochs 1 --limit 16 --batch 4) least=0
  local out=$report/fashion
  rm -rf "$out"
  [ ! -d "$data" ] || export MOONSPIKE_DATA=$data
  "$build/moonspike" examples/fashion_mnist.lua --device cuda --loss trt "${options[@]}" --out "$out" || return 1
  "$build/moonspike" - "$out/log.jsonl" "$least" <<'LUA'
local best = 0
for line in io.lines(arg[1]) do
  local accuracy = tonumber(line:match '"test_accuracy":([%d.e+-]+)' or line:match '"accuracy":([%d.e+-]+)')
  best = math.max(best, accuracy or 0)
end
print(("best test accuracy %.4f, at least %s asked"):format(best, arg[2]))
os.exit(best >= tonumber(arg[2]))
LUA
}

# Steps of ours: how many, network, precision, milliseconds asked for ("": none), engine of every convolution (as they choose).
ours() {
  echo "run step $1
run captured $1" | DEVICE=cuda LOSS=trt "$build/moonspike" scripts/bench/step.lua "$2" "$3" "" ${5:+"$5"} |
    MOST=${4:-} "$build/moonspike" scripts/bench/summary.lua step captured
}

stage_bench() {
  if [ "$emulation" != 0 ]; then
    BATCH=1 ours 1 fashion.T2 bf16 && BATCH=1 ours 1 fashion.T2 bf16 60000 cublas
    return
  fi
  echo "-- resnet19.T6 bf16 without cuDNN, batch 64"
  BATCH=64 ours 30 resnet19.T6 bf16 26 cublas || return 1
  for network in resnet19.T6 resnet19.T4 vggsnn.T10 sew34.T4; do
    for precision in bf16 tf32 fp32; do
      local most=
      [ $network.$precision != resnet19.T6.bf16 ] || most=13
      echo "-- $network $precision, batch 64"
      BATCH=64 ours 30 $network $precision "$most" || return 1
    done
  done
}

stage_peers() {
  if [ "$emulation" = 0 ]; then
    MOONSPIKE=$build/moonspike BENCH_WORK=$report ROUNDS=3 SCREEN=1.2 LIMIT=150 BUDGET=420 timeout 470 scripts/bench/gpu.sh "${CASE:-gpu.resnet19.T6.bf16}"
    return
  fi
  "${PYTHON:-python3}" -c 'import torch' 2>/dev/null || { echo "no torch: the peers' side is not tried"; return 0; }
  MOONSPIKE=$build/moonspike BENCH_WORK=$report DEVICE=cpu BATCH=1 SIZE=8 ROUNDS=1 TURN=0.1 PEERS='^new flat cl$' scripts/bench/gpu.sh gpu.resnet19.T4
}

about | sed 's/^/# /' | tee "$report/report.txt"
failed=0 count=0
for stage in "${stages[@]}"; do
  if ! declare -F "stage_$stage" >/dev/null; then
    echo "gpu-check.sh: unknown stage '$stage' (known: build suite sanitize train bench peers)" >&2
    exit 2
  fi
  echo "== $stage"
  start=$SECONDS
  if "stage_$stage" 2>&1 | tee "$report/$stage.log"; then verdict=ok; else verdict="not ok" failed=1; fi
  sed 's/^/# /' "$report/$stage.log" >>"$report/report.txt"
  count=$((count + 1))
  echo "$verdict $count - $stage, $((SECONDS - start)) s" | tee -a "$report/report.txt"
done
exit $failed
