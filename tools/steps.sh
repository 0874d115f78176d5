# Sourced by check.sh and test.sh: runs named steps, shows the output of those that fail (and, where asked, of all),
# ends with a summary.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
opa=$cache/opa-$(awk '$1 == "github.com/open-policy-agent/opa" {print substr($2, 2); exit}' tools/go.mod)/opa
export PATH=$PWD/.venv/bin:$PATH
steps_failed=()
steps_summary=()

# step NAME command…: quiet when it passes.
step() {
  local name=$1 begun=$SECONDS output code=0; shift
  printf '%-28s' "$name …"
  output=$("$@" 2>&1) || code=$?
  steps_end "$name" "$code" "$begun"
  [ "$code" = 0 ] || printf '%s\n' "$output"
}

# shown NAME command…: its output is shown as it comes.
shown() {
  local name=$1 begun=$SECONDS code=0; shift
  printf '== %s\n' "$name"
  "$@" || code=$?
  steps_end "$name" "$code" "$begun"
}

steps_end() {
  local word=ok
  [ "$2" = 0 ] || { word=FAILED; steps_failed+=("$1"); }
  printf '%-6s %4s s\n' "$word" "$((SECONDS - $3))"
  steps_summary+=("$(printf '  %-26s %-6s %4s s' "$1" "$word" "$((SECONDS - $3))")")
}

steps_finish() { # steps_finish TITLE
  if [ ${#steps_failed[@]} = 0 ]; then printf '%s: all good in %s s\n' "$1" "$SECONDS"; return 0; fi
  printf '%s: FAILED: %s\n' "$1" "$(IFS=,; echo "${steps_failed[*]}")"
  return 1
}
