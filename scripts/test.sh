#!/usr/bin/env bash
# Installs what the tests need, builds with warnings as errors, and runs every test three times: as released, under the address
# and undefined-behaviour sanitizers, and (C tests, gradients, ops and losses from Lua) in double precision; then fuzz.sh. Under the sanitizers the
# CUDA sources run too, on the CPU: rows beside the CPU's in three orders of threads, every Lua test on the device "cuda", and
# the stages of gpu-check.sh. With MOONSPIKE_PLUGIN naming the real plugin, `test.sh cuda` runs the same on a GPU. As many programs
# run at a time as there are cores; each prints its line when it ends. The last line is "N passed, N failed".
# usage: test.sh [release|sanitize|real64|cuda|fuzz ...] [-- name-part ...]      default: all but cuda, every test
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
  release | sanitize | real64 | cuda | fuzz) builds+=("$1") ;;
  *)
    sed -n '2,8s/^# //p' "$0" >&2
    exit 2
    ;;
  esac
  shift
done
[ ${#builds[@]} -gt 0 ] || builds=(release sanitize real64 fuzz)

scripts/install-deps.sh test || exit 1

# The official safetensors package, for tests/lua/test_official.lua; that one says so and skips where it cannot be had.
venv=build/venv
if [ ! -x $venv/bin/python ] || ! $venv/bin/python -c 'import safetensors, numpy' 2>/dev/null; then
  { python3 -m venv $venv && $venv/bin/pip install -q safetensors numpy; } >/dev/null 2>&1 || echo "no safetensors package for Python"
fi
[ -x $venv/bin/python ] && export PYTHON=$PWD/$venv/bin/python

passed=0 failed=0 skipped=0
limit=600 # seconds for one program
most=$(nproc)
[ "$most" -le 8 ] || most=8
logs=$(mktemp -d)
mkfifo "$logs/ended" && exec 3<>"$logs/ended" # a line for each program that ends
started=0
declare -A name=() began=() process=() # of the programs that run now, by number
stop() {
  [ ${#process[@]} -eq 0 ] || kill "${process[@]}" 2>/dev/null
  wait
  rm -rf "$logs"
}
trap stop EXIT
trap 'exit 130' INT TERM

wanted() {
  [ ${#only[@]} -eq 0 ] && return 0
  for part in "${only[@]}"; do [[ $1 == *"$part"* ]] && return 0; done
  return 1
}

# Runs a program, in a shell of its own (`wait -n` of bash forgets programs that end while it does not wait).
watch() {
  timeout -k 10 $limit "${@:2}" 3>&- &
  trap 'kill %1' TERM
  wait %1
  echo "$1 $?" >&3
}

# Starts a test program that writes TAP; waits until another has made room for it.
run() {
  while [ ${#name[@]} -ge "$most" ]; do finish; done
  started=$((started + 1))
  name[$started]=$1 began[$started]=$SECONDS
  watch $started "${@:2}" >"$logs/$started" 2>&1 </dev/null &
  process[$started]=$!
}

# Waits for the end of one of the programs and counts; one that ends badly without a failing line is one failure.
finish() {
  local number status good bad none title seconds output
  read -ru 3 number status
  title=${name[$number]} seconds=$((SECONDS - began[$number])) output=$logs/$number
  unset "name[$number]" "began[$number]" "process[$number]"
  none=$(grep -cE '^(not )?ok .*# SKIP' "$output") # cmocka says "not ok 1 # SKIP"
  good=$(($(grep -c '^ok ' "$output") - $(grep -c '^ok .*# SKIP' "$output")))
  bad=$(($(grep -c '^not ok ' "$output") - $(grep -c '^not ok .*# SKIP' "$output")))
  if [ $status -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
  if [ $((good + bad + none)) -eq 0 ]; then bad=1; fi
  skipped=$((skipped + none))
  passed=$((passed + good))
  failed=$((failed + bad))
  if [ "$bad" -gt 0 ]; then
    printf '%-44s %4d passed %4d FAILED  (exit %d, %d s)\n' "$title" "$good" "$bad" $status $seconds
    [ $status -ne 124 ] || echo "    stopped after $limit s"
    grep -vE '^(ok|1\.\.|# Started|# Starting|not ok .*# SKIP) ?' "$output" | head -n 120 | sed 's/^/    /'
  else
    printf '%-44s %4d passed  %3d s\n' "$title" "$good" $seconds
  fi
  rm -f "$output"
}

finish_all() {
  while [ ${#name[@]} -gt 0 ]; do finish; done
}

# The Lua suite with "cuda" as the current device, by the plugin in a folder.
lua_on_cuda() {
  for test in tests/lua/test_*.lua; do
    [[ $test == *test_@(arrows|examples|json|help|official|host|plot|terminal|tensorboard|recipes|figures).lua ]] && continue # nothing of them is on a device, or
    # much that test_report trains there too
    [[ $1 == *sanitize && $test == *test_models.lua ]] && continue           # networks of full size, too large for EMU_THREADS
    wanted "$(basename "$test")" &&
      MOONSPIKE_DEVICE=cuda MOONSPIKE_PLUGIN=$2 run "$build cuda $(basename "$test")" "$1/moonspike" "$test" -o TAP
  done
}

# The rows of a plugin beside the CPU's, and the Lua suite.
on_cuda() {
  for test in "$1"/tests/test_cuda_*; do
    wanted "$(basename "$test")" && OMP_WAIT_POLICY=passive MOONSPIKE_PLUGIN=$2 run "$build $(basename "$test")" "$test"
  done
  lua_on_cuda "$1" "$2"
}

# The emulation, in two more orders of threads and streams for the C tests, and what it must notice.
emulated() {
  for order in "EMU_ORDER=1" "EMU_ORDER=7 EMU_LAZY=1"; do
    for test in "$1"/tests/test_cuda_*; do
      # shellcheck disable=SC2086
      wanted "$(basename "$test")" && run "$(basename "$test") $order" env OMP_WAIT_POLICY=passive $order "$test"
    done
  done
  EMU_ORDER=0 lua_on_cuda "$1" "$PWD/$1/emu"
  wanted faults.sh && run "faults.sh" tests/cuda/faults.sh
  wanted gpu-check.sh && EMULATION=1 BUILD=$1 REPORT=$1/report run "gpu-check.sh" scripts/gpu-check.sh
}

export CMOCKA_MESSAGE_OUTPUT=TAP
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1
# Two threads a program, also on one core: several threads are part of what is tested. One that waits leaves the core to the
# others: passive, for the C tests; the program sees to that by itself.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
export EMU_DEVICES=2 EMU_THREADS=100000 # of the emulation; a larger launch ends its test
export HOME=${HOME:-/tmp} TERM=${TERM:-dumb}

for build in "${builds[@]}"; do
  if [ $build = fuzz ]; then # readers of files, a few seconds each, by fuzz.sh
    echo "== fuzz"
    SEED=1 run "fuzz.sh" scripts/fuzz.sh 5 ${only[@]+"${only[@]}"}
    finish_all
    continue
  fi
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
      wanted "$(basename "$test")" && EMU_ORDER=0 OMP_WAIT_POLICY=passive run "$build $(basename "$test")" "$test"
    done
    for test in tests/lua/test_*.lua; do
      [ $build = real64 ] && [[ $test != *test_@(gradients*|autograd|tensor|loss|optim|errors).lua ]] && continue
      wanted "$(basename "$test")" && run "$build $(basename "$test")" "$folder/moonspike" "$test" -o TAP
    done
  fi
  [ $build = sanitize ] && emulated "$folder"
  finish_all
  printf '== %s: built in %d s, tested in %d s\n' "$build" $built $((SECONDS - begin - built))
done

[ $skipped -eq 0 ] || echo "$skipped skipped: this machine or build cannot run them"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
