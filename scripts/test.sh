#!/usr/bin/env bash
# Installs what the tests need, builds with warnings as errors, and runs every test three times: as released, under the address
# and undefined-behaviour sanitizers, and (C tests, gradients, ops and losses from Lua) in double precision. Under the sanitizers the
# CUDA sources run too, on the CPU: rows beside the CPU's in three orders of threads, every Lua test on the device "cuda", and
# the stages of gpu-check.sh. With MOONSPIKE_PLUGIN naming the real plugin, `test.sh cuda` runs the same on a GPU. Ends with "N passed, N failed".
# usage: test.sh [release|sanitize|real64|cuda ...] [-- name-part ...]      default: all three, every test
set -uo pipefail
cd "$(dirname "$0")/.."

builds=() only=()
while [ $# -gt 0 ]; do
  case "$1" in
  --)
    shift
    only=("$@")
    break
    ;;
  release | sanitize | real64 | cuda) builds+=("$1") ;;
  *)
    sed -n '2,7s/^# //p' "$0" >&2
    exit 2
    ;;
  esac
  shift
done
[ ${#builds[@]} -gt 0 ] || builds=(release sanitize real64)

scripts/install-deps.sh test || exit 1

# The official safetensors package, for tests/lua/test_official.lua; that one says so and skips where it cannot be had.
venv=build/venv
if [ ! -x $venv/bin/python ] || ! $venv/bin/python -c 'import safetensors, numpy' 2>/dev/null; then
  { python3 -m venv $venv && $venv/bin/pip install -q safetensors numpy; } >/dev/null 2>&1 || echo "no safetensors package for Python"
fi
[ -x $venv/bin/python ] && export PYTHON=$PWD/$venv/bin/python

passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

wanted() {
  [ ${#only[@]} -eq 0 ] && return 0
  for part in "${only[@]}"; do [[ $1 == *"$part"* ]] && return 0; done
  return 1
}

# Runs one test program that writes TAP; a program that ends badly without a failing line counts as one failure.
run() {
  local name=$1 start=$SECONDS
  shift
  "$@" >"$log" 2>&1
  local status=$? good bad none
  none=$(grep -cE '^(not )?ok .*# SKIP' "$log") # cmocka says "not ok 1 # SKIP"
  good=$(($(grep -c '^ok ' "$log") - $(grep -c '^ok .*# SKIP' "$log")))
  bad=$(($(grep -c '^not ok ' "$log") - $(grep -c '^not ok .*# SKIP' "$log")))
  if [ $status -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
  if [ $((good + bad + none)) -eq 0 ]; then bad=1; fi
  skipped=$((skipped + none))
  passed=$((passed + good))
  failed=$((failed + bad))
  if [ "$bad" -gt 0 ]; then
    printf '%-44s %4d passed %4d FAILED  (exit %d)\n' "$name" "$good" "$bad" $status
    grep -vE '^(ok|1\.\.|# Started|# Starting|not ok .*# SKIP) ?' "$log" | head -n 120 | sed 's/^/    /'
  else
    printf '%-44s %4d passed  %3d s\n' "$name" "$good" $((SECONDS - start))
  fi
}

# The Lua suite with "cuda" as the current device, by the plugin in a folder.
lua_on_cuda() {
  for test in tests/lua/test_*.lua; do
    [[ $test == *test_@(arrows|json|help|official|host).lua ]] && continue # nothing of them is on a device
    wanted "$(basename "$test")" &&
      MOONSPIKE_DEVICE=cuda MOONSPIKE_PLUGIN=$2 run "$build cuda $(basename "$test")" "$1/moonspike" "$test" -o TAP
  done
}

# The rows of a plugin beside the CPU's, and the Lua suite.
on_cuda() {
  for test in "$1"/tests/test_cuda_*; do
    wanted "$(basename "$test")" && MOONSPIKE_PLUGIN=$2 run "$build $(basename "$test")" "$test"
  done
  lua_on_cuda "$1" "$2"
}

# The emulation, in two more orders of threads and streams for the C tests, and what it must notice.
emulated() {
  for order in "EMU_ORDER=1" "EMU_ORDER=7 EMU_LAZY=1"; do
    for test in "$1"/tests/test_cuda_*; do
      [[ $test == *test_cuda_step ]] && continue # its counts do not depend on the order, and it takes a minute and a half
      # shellcheck disable=SC2086
      wanted "$(basename "$test")" && run "$(basename "$test") $order" env $order "$test"
    done
  done
  EMU_ORDER=0 lua_on_cuda "$1" "$PWD/$1/emu"
  wanted faults.sh && run "faults.sh" tests/cuda/faults.sh
  wanted gpu-check.sh && EMULATION=1 BUILD=$1 REPORT=$1/report run "gpu-check.sh" scripts/gpu-check.sh
}

export CMOCKA_MESSAGE_OUTPUT=TAP
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1
export HOME=${HOME:-/tmp} TERM=${TERM:-dumb}

for build in "${builds[@]}"; do
  case $build in
  release) folder=build options=(-DCMAKE_BUILD_TYPE=Release) ;;
  sanitize) folder=build-sanitize options=(-DCMAKE_BUILD_TYPE=Debug -DMS_SANITIZE=ON -DMS_EMULATION=ON) ;;
  cuda) folder=build options=(-DCMAKE_BUILD_TYPE=Release -DMS_CUDA=ON) ;;
  real64) folder=build-real64 options=(-DCMAKE_BUILD_TYPE=Release -DMS_REAL64=ON) ;;
  esac
  begin=$SECONDS
  echo "== $build"
  if ! scripts/build.sh "$folder" -DMS_WERROR=ON "${options[@]}"; then
    echo "the $build build failed"
    failed=$((failed + 1))
    continue
  fi
  built=$((SECONDS - begin))
  export MOONSPIKE_BUILD=$build
  if [ $build = cuda ]; then
    on_cuda "$folder" "${MOONSPIKE_PLUGIN:-$PWD/$folder}"
  else
    for test in "$folder"/tests/test_*; do
      wanted "$(basename "$test")" && EMU_ORDER=0 run "$build $(basename "$test")" "$test"
    done
    for test in tests/lua/test_*.lua; do
      [ $build = real64 ] && [[ $test != *test_@(gradients|autograd|tensor|loss|optim|errors).lua ]] && continue
      wanted "$(basename "$test")" && run "$build $(basename "$test")" "$folder/moonspike" "$test" -o TAP
    done
  fi
  [ $build = sanitize ] && emulated "$folder"
  printf '== %s: built in %d s, tested in %d s\n' "$build" $built $((SECONDS - begin - built))
done

[ $skipped -eq 0 ] || echo "$skipped skipped: this machine or build cannot run them"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
