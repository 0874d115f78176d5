#!/usr/bin/env bash
# What `make test-all` does after `make test`: the same on servers of every major version. MAJORS='14 17': on these.
set -uo pipefail
cd "$(dirname "$0")/.."
. tools/steps.sh

every_major() { # Sluice refuses environment variables that it does not know, so the tests alone see this one.
  SLUICE_EVERY_MAJOR=1 pytest -q "$@"
}

step "pytest on every major" every_major tests/sluice_proxy/test_allowlists.py tests/sluice_proxy/test_catalog_reader.py \
  tests/sluice_proxy/governed tests/sluice_proxy/test_probe.py
for major in ${MAJORS:-14 15 16 17 18}; do
  shown "corpora on $major" python tests/corpus/run.py --major "$major" --ratchet tests/corpus/ratchet.json
  shown "fuzz on $major" python -m sluice_dev.worlds --major "$major" --statements "${STATEMENTS:-1000}" --seed 1
  step "identity masks on $major" python -m sluice_dev.worlds --identity --major "$major" --statements 300 --seed 1
done
printf '\n'
printf '%s\n' "${steps_summary[@]}"
steps_finish "test-all"
