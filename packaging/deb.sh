#!/usr/bin/env bash
# Debian packages of the three programs, in target/dist/debian, with man pages, completions and units. Needs cargo-deb
# (`cargo install --locked cargo-deb`) and dpkg-dev. PROFILE=dev makes them of a quick build, to try.
set -euo pipefail
cd "$(dirname "$0")/.."
out=target/dist
profile=${PROFILE:-release}
if [ "$profile" = release ]; then
  packaging/build.sh
  built=$out/build
else
  built=target
  cargo build --profile "$profile" --locked --target-dir "$built" -p postern-client -p postern-issuer -p postern-relay --bins
fi
rm -rf "$out/pages" && mkdir -p "$out/debian"
cargo run --quiet --profile "$profile" --locked --target-dir "$built" -p postern-pages -- "$out/pages"
for package in postern-client postern-issuer postern-relay; do
  CARGO_TARGET_DIR=$built cargo deb --no-build --profile "$profile" --package "$package" --output "$out/debian/"
done
ls -l "$out"/debian/*.deb
