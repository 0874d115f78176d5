#!/usr/bin/env bash
# What `make check` does. Every step runs, also after one failed.
set -uo pipefail
cd "$(dirname "$0")/.."
. tools/steps.sh

rego_format() { test -z "$("$opa" fmt --list policy/rego)" || { "$opa" fmt --diff policy/rego; return 1; }; }
stub() {
  # The stub is the contract between the two languages: every name, signature and constant is compared.
  MYPYPATH=proxy/src python -m mypy.stubtest sluice_proxy._native --mypy-config-file tools/stubtest.ini \
    --allowlist tools/stubtest.allowlist --ignore-unused-allowlist
}

step "ruff" ruff check .
step "ruff format" ruff format --check .
step "pyright (strict)" pyright
step "import rules" lint-imports
step "stub of the extension" stub
step "CRD manifests" python -m sluice_crds.manifests --check
step "statement table" python -m sluice_proxy.facts.reference --check
if cargo fmt --version >/dev/null 2>&1; then step "rustfmt" cargo fmt --check; else echo "rustfmt is not installed: rustup component add rustfmt"; steps_failed+=(rustfmt); fi
if cargo clippy --version >/dev/null 2>&1; then step "clippy (pedantic)" cargo clippy -q --all-targets --locked -- -D warnings; else echo "clippy is not installed: rustup component add clippy"; steps_failed+=(clippy); fi
step "opa check --strict" "$opa" check --strict policy/rego
step "opa fmt" rego_format
steps_finish "check"
