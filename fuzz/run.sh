#!/usr/bin/env bash
# Fuzzes every target for SECONDS (default 20), three at a time, and prints a table. Fails on any crash; what crashed lies in
# fuzz/artifacts/<target>/, and becomes a test of the part that it is a fault of. `fuzz/run.sh SECONDS TARGET…` fuzzes these only;
# `fuzz/run.sh build` builds them.
#
# No sanitizer: our code is safe Rust but for one module of calls into aws-lc, whose C the sanitizer would not see either; and without it
# building takes half the time. What is looked for are panics, overflows, what the targets assert, and memory (-rss_limit_mb).
# RUSTC_BOOTSTRAP: the coverage that libFuzzer needs is a flag of nightly compilers, and ours is a stable one.
set -euo pipefail
cd "$(dirname "$0")"
export RUSTC_BOOTSTRAP=1 CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never
seconds="${1:-20}"
shift || true
triple="$(rustc -vV | sed -n 's/^host: //p')"
command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --version 0.13.2 --locked

# All programs at once: cargo-fuzz builds one after the other when it runs them.
began=$(date +%s)
cargo fuzz build --fuzz-dir . --sanitizer none
echo "built in $(($(date +%s) - began)) s"
[ "$seconds" != build ] || exit 0
programs="target/$triple/release"
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || mapfile -t targets < <(sed -n 's/^    ("\([a-z_]*\)",.*/\1/p' targets/src/lib.rs)

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
# What is found goes to a corpus of this run. With FUZZ_KEEP=1, some of it goes to the repository's: of the inputs that reach what the seeds
# do not, some short ones, by the hash that is their name.
KEPT_FILES=24 KEPT_BYTES=4096
one() {
  local name="$1"
  mkdir -p "$work/$name" "artifacts/$name"
  "$programs/$name" "$work/$name" "corpus/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=512 -print_final_stats=1 \
    -artifact_prefix="artifacts/$name/" >"$work/$name.log" 2>&1 || echo "$name" >>"$work/crashed"
}
for name in "${targets[@]}"; do
  while [ "$(jobs -rp | wc -l)" -ge 3 ]; do wait -n; done
  one "$name" &
done
wait

printf '%-18s %12s %8s %10s %10s\n' target executions exec/s coverage new
for name in "${targets[@]}"; do
  log="$work/$name.log"
  coverage() { grep -o 'cov: [0-9]*' | "$1" -1 | tr -dc 0-9; }
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
  before=$(grep INITED "$log" | coverage head || true)
  after=$(coverage tail <"$log" || true)
  printf '%-18s %12s %8s %10s %10s\n' "$name" "${executions:-?}" "${rate:-?}" "${after:-?}" "$((${after:-0} - ${before:-0}))"
done
if [ -n "${FUZZ_KEEP:-}" ]; then
  for name in "${targets[@]}"; do
    cover="$work/$name.cover"
    mkdir "$cover" && cp "corpus/$name"/seed-* "$cover"
    "$programs/$name" -set_cover_merge=1 "$cover" "corpus/$name" "$work/$name" >/dev/null 2>&1
    find "corpus/$name" -type f ! -name 'seed-*' -delete
    files=0 bytes=0
    while read -r file size; do
      files=$((files + 1)) bytes=$((bytes + size))
      if [ "$files" -gt "$KEPT_FILES" ] || [ "$bytes" -gt "$KEPT_BYTES" ]; then break; fi
      cp "$file" "corpus/$name/"
    done < <(find "$cover" -type f ! -name 'seed-*' -size -2 -printf '%p %s\n' | sort)
  done
fi
if [ -e "$work/crashed" ]; then
  while read -r name; do
    echo "== $name"
    tail -40 "$work/$name.log"
  done <"$work/crashed"
  exit 1
fi
