# Sourced by scripts/bench and scripts/bench-gateway: a PostgreSQL for the moment with its own durable settings, a Sealport on it with a
# person and a token, the load, and tables.
# shellcheck disable=SC2034 # the scripts that source this use it
# shellcheck source=scripts/common.bash
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

seconds=${SECONDS_EACH:-5}
connections=32

# The servers here are configured here; nothing of the caller's own set-up may reach them.
unset DATABASE_URL DATABASE_OWNER_URL
for name in ${!SEALPORT_*} ${!BAO_*} ${!VAULT_*}; do
    unset "$name"
done

sealport=$target/release/sealport
pg_bin=$(postgres_bin)
[ -n "$pg_bin" ] || die "PostgreSQL's server programs (initdb, postgres) are missing. Install them, then run this again."
[ -x "$pg_bin/pgbench" ] || die "pgbench is missing beside $pg_bin/postgres. It comes with PostgreSQL; install it, then run this again."
has curl || die "curl is missing. Install it, then run this again."
[ -x "$sealport" ] || die "$sealport is missing. Build it with: make build"

# Short, because a socket's path may have 107 bytes; in /tmp, because a home may be closed to others.
dir=$(mktemp -d /tmp/sealport-bench.XXXXXX)
chmod 711 "$dir"
mkdir "$dir/pg" "$dir/other"
# PostgreSQL refuses to run as root.
as_server=()
if [ "$(id -u)" -eq 0 ]; then
    chown nobody "$dir/pg"
    as_server=(setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups --)
fi
postgres() { (cd "$dir/pg" && "${as_server[@]}" "$pg_bin/$1" "${@:2}"); }
sql() { "$pg_bin/psql" --quiet --no-psqlrc --no-align --tuples-only --host="$dir/pg" --set=ON_ERROR_STOP=1 "$@"; }

server='' other=''
stop_sealport() {
    [ -n "$server" ] || return 0
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=''
}
# What is measured beside Sealport.
stop_other() {
    [ -n "$other" ] || return 0
    kill "$other" 2>/dev/null || true
    wait "$other" 2>/dev/null || true
    other=''
}
finish() {
    stop_sealport
    stop_other
    postgres pg_ctl --pgdata="$dir/pg/data" --mode=immediate stop >/dev/null 2>&1 || true
    rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# ---- What it stands on ----

say "Building the load"
load=$dir/load
rustc --edition 2024 -O -o "$load" benches/load.rs

say "Starting a PostgreSQL for the moment"
postgres initdb --pgdata="$dir/pg/data" --username=postgres --auth=trust --encoding=UTF8 >/dev/null
postgres pg_ctl --pgdata="$dir/pg/data" --log="$dir/pg/log" --wait \
    --options="-c listen_addresses='' -c unix_socket_directories='$dir/pg' -c fsync=on -c synchronous_commit=on" start >/dev/null ||
    { cat "$dir/pg/log" >&2; die "PostgreSQL did not start."; }

# As src/store/embedded/roles.rs makes them: the owner who migrates is no superuser.
sql --username=postgres --dbname=postgres <<'SQL'
create role sealport_server nologin;
create role sealport_owner login createrole;
create role sealport_app login;
grant sealport_server to sealport_app;
grant sealport_server to sealport_owner with admin option;
create role openbao login;
create database sealport owner sealport_owner template template0 encoding 'UTF8';
create database openbao owner openbao template template0 encoding 'UTF8';
SQL
sql --username=postgres --dbname=sealport --command='alter schema public owner to sealport_owner; grant usage on schema public to public'

# A port that is free now.
free_port() {
    local port
    for port in $(shuf -i 20000-32000 -n 50); do
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    die "No free port was found."
}
port=$(free_port)
address=127.0.0.1:$port
mkdir "$dir/data"
export SEALPORT_ADDR=$address SEALPORT_DATA=$dir/data SEALPORT_API_REQUESTS_PER_MINUTE=0 SEALPORT_CALLS_PER_MINUTE=0 SEALPORT_DIR_ROOTS=$PWD/benches
export DATABASE_URL="postgres://sealport_app@localhost/sealport?host=$dir/pg"
export DATABASE_OWNER_URL="postgres://sealport_owner@localhost/sealport?host=$dir/pg"

milliseconds() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# Sets started_ms: from the start of the process to the first 200 of /readyz.
start_sealport() {
    local before
    before=$(milliseconds)
    "$sealport" serve >>"$dir/sealport.out" 2>>"$dir/sealport.log" &
    server=$!
    "$load" wait "$address" /readyz || { tail -n 20 "$dir/sealport.log" >&2; die "Sealport did not start."; }
    started_ms=$(($(milliseconds) - before))
}
resident_mb() { awk '/^VmRSS/ { printf "%.0f", $2 / 1024 }' "/proc/$server/status"; }

# ---- What is measured ----

refusals=0
# Runs the load; sets rate, p50 and p99 (in ms).
measure() { # ADDRESS METHOD PATH [OPTION VALUE]..
    loaded "$3" run "$1" "$2" "$3" --connections "$connections" --seconds "$seconds" "${@:4}"
}
loaded() { # WHAT ARGUMENT..
    local answered refused p50_us p99_us
    read -r answered refused rate p50_us p99_us < <("$load" "${@:2}")
    [ -n "${p99_us:-}" ] || die "The load did not end well."
    if [ "$refused" -ne 0 ]; then
        warn "$refused of $((answered + refused)) requests to $1 failed"
        refusals=$((refusals + refused))
    fi
    p50=$(awk "BEGIN { printf \"%.2f\", $p50_us / 1000 }") p99=$(awk "BEGIN { printf \"%.2f\", $p99_us / 1000 }")
}

rows=()
row() { rows+=("$(printf '| %-58s | %9s | %9s | %9s |' "$@")"); }
goals=()
goal() { # SENTENCE CONDITION FIGURE
    local met=met
    awk "BEGIN { exit !($2) }" || met='NOT MET'
    goals+=("$(printf '| %-58s | %9s | %-7s |' "$1" "$3" "$met")")
}
rounded() { awk "BEGIN { printf \"%.0f\", $1 }"; }
ratio() { awk "BEGIN { printf \"%.${3:-2}f\", $1 / $2 }"; }

say "Sealport: the first start, which makes the tables, and a person"
echo 'a password for the bench' | "$sealport" user add bench@example.org --admin --password-stdin >/dev/null
token=$("$sealport" token new --user bench@example.org --name bench --can admin --deploy)
start_sealport
bearer="Authorization: Bearer $token"

# Asks the API, and gives up unless it agrees.
ask() { # METHOD PATH BODY
    local answer
    answer=$(curl --silent --show-error --write-out '\n%{http_code}' --request "$1" --header "$bearer" \
        --header 'Content-Type: application/json' --data "$3" "http://$address/api/v1$2")
    case ${answer##*$'\n'} in
    2??) ;;
    *) die "$1 $2 was answered with: $answer" ;;
    esac
}

figures=()
figure() { # SENTENCE FIGURE
    figures+=("$(printf '| %-58s | %9s |' "$@")")
}

# Prints what was measured; fails when requests failed.
print_tables() {
    local line version cpu memory
    line=$(printf -- '-%.0s' {1..59})
    version=$("$pg_bin/postgres" --version | awk '{ print $3 }')
    cpu=$(awk -F ': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)
    memory=$(awk '/^MemTotal/ { printf "%.0f GB", $2 / 1e6 }' /proc/meminfo)
    printf '\n%s cores (%s), %s, PostgreSQL %s with fsync and synchronous_commit on, %s connections, %s s each.\n\n' \
        "$(nproc)" "$cpu" "$memory" "$version" "$connections" "$seconds"
    printf '| %-58s | %9s | %9s | %9s |\n' '' 'a second' '50th, ms' '99th, ms'
    printf '|:%s|%s:|%s:|%s:|\n' "$line" ---------- ---------- ----------
    printf '%s\n' "${rows[@]}"
    printf '\n| %-58s | %9s |\n|:%s|%s:|\n' '' '' "$line" ----------
    printf '%s\n' "${figures[@]}"
    printf '\n| %-58s | %9s | %-7s |\n|:%s|%s:|:%s|\n' goal '' '' "$line" ---------- --------
    printf '%s\n' "${goals[@]}"
    [ "$refusals" -eq 0 ] || die "$refusals requests failed: the figures above are not to be relied on."
}
