#!/usr/bin/env bash
# The three programs as they are released, and their sums: the same bytes from any folder (docs/releasing.md).
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
cargo_home=${CARGO_HOME:-$HOME/.cargo}
sysroot=$(rustc --print sysroot)

# Paths of this machine are in panic messages and debug information, of Rust and of C.
export RUSTFLAGS="--remap-path-prefix=$root=/postern --remap-path-prefix=$cargo_home=/cargo --remap-path-prefix=$sysroot=/rust"
export CFLAGS="-ffile-prefix-map=$root=/postern -ffile-prefix-map=$cargo_home=/cargo"
export CXXFLAGS=$CFLAGS CARGO_INCREMENTAL=0 SOURCE_DATE_EPOCH=0

out=target/dist
cargo build --release --locked --target-dir "$out/build" -p postern-client -p postern-issuer -p postern-relay --bins
cp "$out"/build/release/{postern,postern-issuer,postern-relay} "$out/"
cd "$out"
{
  echo "# $(rustc --version); $(cc --version | head -1)"
  sha256sum postern postern-issuer postern-relay
} | tee SHA256SUMS
