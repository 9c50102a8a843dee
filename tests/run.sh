#!/usr/bin/env bash
# tests/run.sh - install what is missing, build, run every suite; ends with
# "N passed, N failed, N skipped" and fails if anything failed.
#
# usage: tests/run.sh [--quick]      --quick: the release build's unit and house suites only
#
# Builds go to build/ (release, the one that is served), build-asan/, build-tsan/ and build-fuzz/.
set -u
cd "$(dirname "$0")/.."
quick=${1:-}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice
jobs=$(nproc)
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
failed_steps=0

step() { # step NAME COMMAND...: a step that fails counts as one failed test
    local name=$1
    shift
    printf '\n=== %s\n' "$name"
    if "$@"; then
        return 0
    fi
    printf '=== FAILED: %s\n' "$name"
    failed_steps=$((failed_steps + 1))
    echo "fail $name" >>"$results/steps"
    return 1
}

configure() { # configure DIR OPTIONS...
    local dir=$1
    shift
    if [ -f "$dir/build.ninja" ]; then
        meson configure "$dir" "$@" >/dev/null
    else
        meson setup "$dir" "$@"
    fi
}

build() {
    local dir=$1
    shift
    configure "$dir" "$@" && ninja -C "$dir" -j "$jobs"
}

suite() { # suite NAME DIR ARGUMENTS...: run meson tests and keep their log
    local name=$1 dir=$2 rc=0
    shift 2
    rm -f "$dir/meson-logs/testlog.json"
    meson test -C "$dir" --no-rebuild --print-errorlogs --num-processes "$jobs" "$@" || rc=1
    [ -f "$dir/meson-logs/testlog.json" ] && cp "$dir/meson-logs/testlog.json" "$results/$name.json"
    [ -f "$results/$name.json" ] # its failures are counted from the log
}

e2e() { # e2e NAME BINARY_DIR ARGUMENTS...
    local name=$1 dir=$2
    shift 2
    SLUICE_BUILD=$PWD/$dir "$cache/venv/bin/python" -m pytest -q -p no:cacheprovider --color=no \
        --junitxml="$results/$name.xml" "$@"
    [ -f "$results/$name.xml" ]
}

venv() {
    [ -x "$cache/venv/bin/python" ] || python3 -m venv "$cache/venv" || return 1
    "$cache/venv/bin/python" -c 'import openai, pytest' 2>/dev/null ||
        "$cache/venv/bin/pip" install -q --disable-pip-version-check 'openai>=1.50' pytest
}

step "install packages" deploy/deps.sh --test
step "release build" build build -Dbuildtype=release -Dtests=enabled || { echo "0 passed, 1 failed, 0 skipped"; exit 1; }

if [ "$quick" != --quick ]; then
    step "model for the tests" deploy/get-model.sh smollm2-135m ||
        echo "no model: the tests that need it will say that they skip"
fi
step "unit and house suites" suite release build

if [ "$quick" != --quick ]; then
    if step "address sanitizer build" build build-asan -Dbuildtype=debugoptimized -Dsanitize=address -Dtests=enabled; then
        step "unit suite, address and undefined behaviour sanitizers" suite asan build-asan --suite unit --timeout-multiplier 6
    fi
    if step "thread sanitizer build" build build-tsan -Dbuildtype=debugoptimized -Dsanitize=thread -Dtests=enabled; then
        step "threads, thread sanitizer" suite tsan build-tsan --suite threads --timeout-multiplier 10
    fi
    if CC=clang step "fuzz build" build build-fuzz -Dbuildtype=debugoptimized -Dsanitize=address -Dfuzz=true -Dtests=disabled; then
        step "fuzz harnesses, a few seconds each" tests/fuzz/run.sh build-fuzz 5
    fi
    if step "python environment" venv; then
        step "end to end, release" e2e e2e build tests/e2e
        step "end to end, address sanitizer" e2e e2e-asan build-asan tests/e2e -m "not real_model and not slow"
    fi
fi

python3 tests/summary.py "$results"
