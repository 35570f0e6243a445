#!/usr/bin/env bash
# Requests made from docs/openapi, sound and unsound, to both servers: no failure of the server's, and no status, media type or body that
# the documents do not name. The seed is fixed, so that a failure comes again. `tests/schemathesis.sh [EXAMPLES]` (for each endpoint; default 40).
set -euo pipefail
cd "$(dirname "$0")/.."
examples="${1:-40}"
VERSION=4.32.5
python="target/schemathesis-$VERSION"
if [ ! -x "$python/bin/schemathesis" ]; then
  python3 -m venv "$python"
  "$python/bin/pip" install -q "schemathesis==$VERSION"
fi
# The programs of the tests, with the features that `cargo test` builds them with: nothing is built twice.
cargo test -q --workspace --no-run
programs="${CARGO_TARGET_DIR:-target}/debug"

work="$(mktemp -d)"
servers=()
trap 'kill "${servers[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
printed() { python3 -c 'import json, sys; print(json.load(sys.stdin)["public_key"])'; }
issuer="127.0.0.1:$(free_port)" relay="127.0.0.1:$(free_port)"
key=$("$programs/world-issuer" init --dir "$work/issuer" --name issuer.test --listen "$issuer" --url "http://$issuer" --texts texts.log | printed)
relay_key=$("$programs/world-relay" init --dir "$work/relay" --name relay.test --listen "$relay" --url "http://$relay" \
  --issuer-name issuer.test --issuer-url "http://$issuer" --issuer-public-key "$key" | printed)
"$programs/world-issuer" add-relay --config "$work/issuer/issuer.toml" --name relay.test --url "http://$relay" --public-key "$relay_key"
for server in issuer relay; do
  "$programs/world-$server" serve --config "$work/$server/$server.toml" >"$work/$server.out" 2>"$work/$server.log" &
  servers+=($!)
done
for server in issuer relay; do
  until grep -q '^listening' "$work/$server.out"; do sleep 0.1; done
done

# A mailbox, and the JWT of its owner: half of the relay is for owners.
jwt() { python3 tests/schemathesis_jwt.py "$work/issuer/secret.key" "$1"; }
curl -fsS -X POST -H "authorization: Bearer $(jwt grant)" "http://$relay/v1/mailboxes" >/dev/null
owner="authorization: Bearer $(jwt mailbox)"

export SCHEMATHESIS_HOOKS=schemathesis_hooks PYTHONPATH="$PWD/tests" PYTHONDONTWRITEBYTECODE=1
root="$PWD"
failed=0
check() {
  local server="$1" address="${!1}"
  shift
  # In a folder of its own, since it keeps notes where it runs.
  (cd "$work" && "$root/$python/bin/schemathesis" run "$root/docs/openapi/$server.json" --url "http://$address" --seed 20261127 --max-examples "$examples" \
    --phases examples,coverage,fuzzing --request-timeout 40 --no-color --warnings off \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance "$@") || failed=1
}
check issuer
check relay
# What waits for mail is left out: it would wait.
check relay -H "$owner" --exclude-path-regex '/mailbox/(events|messages)$'
for server in issuer relay; do
  if grep -A5 panicked "$work/$server.log"; then failed=1; fi
done
exit "$failed"
