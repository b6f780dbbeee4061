#!/usr/bin/env bash
# Installs what the tests need, builds with warnings as errors, and runs every test three times: as released, under the address
# and undefined-behaviour sanitizers, and (C tests, gradients, ops and losses from Lua) in double precision. Ends with "N passed, N failed".
# usage: test.sh [release|sanitize|real64 ...] [-- name-part ...]      default: all three, every test
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
  release | sanitize | real64) builds+=("$1") ;;
  *)
    sed -n '2,5s/^# //p' "$0" >&2
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

export CMOCKA_MESSAGE_OUTPUT=TAP
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1
export HOME=${HOME:-/tmp} TERM=${TERM:-dumb}

for build in "${builds[@]}"; do
  case $build in
  release) folder=build options=(-DCMAKE_BUILD_TYPE=Release) ;;
  sanitize) folder=build-sanitize options=(-DCMAKE_BUILD_TYPE=Debug -DMS_SANITIZE=ON) ;;
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
  for test in "$folder"/tests/test_*; do
    wanted "$(basename "$test")" && run "$build $(basename "$test")" "$test"
  done
  for test in tests/lua/test_*.lua; do
    [ $build = real64 ] && [[ $test != *test_@(gradients|autograd|tensor|loss|optim|errors).lua ]] && continue
    wanted "$(basename "$test")" && run "$build $(basename "$test")" "$folder/moonspike" "$test" -o TAP
  done
  printf '== %s: built in %d s, tested in %d s\n' "$build" $built $((SECONDS - begin - built))
done

[ $skipped -eq 0 ] || echo "$skipped skipped: this machine or build cannot run them"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
