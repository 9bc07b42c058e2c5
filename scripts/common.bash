# Sourced by the scripts beside it: where things are, and how to speak.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Tools that are built from source are shared by all checkouts of this user.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sealport
tools=$cache/tools
# shellcheck disable=SC2034 # the scripts that source this use it
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
if [ -d "${CARGO_HOME:-$HOME/.cargo}/bin" ]; then
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
fi
# Before all others: the versions that this checkout wants, whatever else was installed.
PATH=$tools/bin:$PWD/node_modules/.bin:$PATH
export PATH

say() { printf '\033[2m==>\033[0m %s\n' "$*"; }
warn() { printf '\033[33m==>\033[0m %s\n' "$*" >&2; }
die() {
    printf '\033[31m==>\033[0m %s\n' "$*" >&2
    exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

# The version that Cargo.lock holds a crate at.
locked_version() {
    awk -v name="\"$1\"" '$1 == "name" { found = $3 == name } found && $1 == "version" { gsub(/"/, "", $3); print $3; exit }' Cargo.lock
}

# The directory of the newest PostgreSQL server binaries, or nothing.
postgres_bin() {
    local dir
    for dir in $(printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin | sort -rV); do
        if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then
            echo "$dir"
            return
        fi
    done
    if has initdb && has postgres; then
        dirname "$(command -v initdb)"
    fi
}

# A Chromium for the browser tests, or nothing: the caller's own choice first.
chromium_path() {
    local name
    for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
        if [ -n "$name" ] && has "$name"; then
            command -v "$name"
            return
        fi
    done
    return 1
}

# Queries are checked against .sqlx. DATABASE_URL configures the server; no build may see it.
cargo() { env -u DATABASE_URL SQLX_OFFLINE=true cargo "$@"; }
