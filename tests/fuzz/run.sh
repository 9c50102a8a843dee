#!/usr/bin/env bash
# tests/fuzz/run.sh - run every libFuzzer harness of a fuzz build for a while, on a copy of its corpus.
# usage: tests/fuzz/run.sh BUILD_DIR SECONDS [NAME...]
set -eu
root=$(cd "$(dirname "$0")" && pwd)
build=$1 seconds=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1}
found=0
for exe in "$build"/tests/fuzz/fuzz_*; do
    [ -f "$exe" ] && [ -x "$exe" ] || continue
    name=${exe##*/fuzz_}
    [ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
    found=$((found + 1))
    mkdir -p "$work/$name"
    echo "fuzz $name: $seconds s"
    (cd "$work" && "$OLDPWD/$exe" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
        -print_final_stats=1 -verbosity=0 "$work/$name" "$root/corpus/$name" 2>"$work/log") || {
        tail -n 60 "$work/log"
        exit 1
    }
    grep -E 'number_of_executed_units' "$work/log" || true
done
[ "$found" -gt 0 ] || { echo "no harness in $build" >&2; exit 1; }
