#!/usr/bin/env bash
# What `make test` does: every suite, then the corpora. Every step runs, also after one failed.
set -uo pipefail
cd "$(dirname "$0")/.."
. tools/steps.sh

rego() { # A suite that covers less than 95 % of the library fails.
  "$opa" test --timeout 60s policy/rego && "$opa" test --timeout 60s policy/rego --coverage --threshold 95 --format json |
    python -c 'import json, sys; print("opa coverage: %.1f %%" % json.load(sys.stdin)["coverage"])'
}

shown "opa test" rego
# The extension itself has no Rust tests: it cannot be linked without an interpreter.
shown "cargo test" cargo test -q --locked --workspace --exclude sluice-native
shown "pytest" pytest -q ${PYTEST_ARGS:-}
shown "corpora" python tests/corpus/run.py --ratchet tests/corpus/ratchet.json
printf '\n'
printf '%s\n' "${steps_summary[@]}"
steps_finish "test"
