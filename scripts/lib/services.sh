# shellcheck shell=bash
# S3 servers for the tests, on loopback ports of their own. Sourced after tools.sh. Each
# start function leaves the server's address and keys in MUSTER_TEST_S3_… variables;
# services_stop ends what was started.

MOTO_VERSION=5.2.5
# Garage is built from source: some ten minutes, once.
GARAGE_VERSION=2.5.0
S3_BUCKET=bucket

SERVICES_DIR=""
SERVICE_PIDS=()

need_moto() {
    local venv="$TOOLS_DIR/moto"
    need_python3 >/dev/null
    if [ "$(cat "$venv/version" 2>/dev/null)" != "$MOTO_VERSION" ]; then
        rm -rf "$venv"
        log "pip install moto $MOTO_VERSION"
        python3 -m venv "$venv" 2>/dev/null || {
            is_root || die "python3 -m venv does not work; as root: apt-get install python3-venv"
            apt_install python3-venv
            python3 -m venv "$venv"
        }
        "$venv/bin/pip" install -q --disable-pip-version-check "moto[s3]==$MOTO_VERSION" flask flask-cors >&2
        printf '%s\n' "$MOTO_VERSION" >"$venv/version"
    fi
    printf '%s\n' "$venv/bin/moto_server"
}

need_garage() {
    local garage="$TOOLS_DIR/garage/bin/garage"
    need_cargo >/dev/null
    if ! "$garage" --version 2>/dev/null | grep -qF "$GARAGE_VERSION"; then
        log "cargo install garage $GARAGE_VERSION (ten minutes or so, once)"
        nice -n 10 cargo install garage --version "$GARAGE_VERSION" --locked --root "$TOOLS_DIR/garage" >&2
    fi
    printf '%s\n' "$garage"
}

services_folder() {
    [ -n "$SERVICES_DIR" ] || SERVICES_DIR="$(mktemp -d)"
}

# Ports that nobody listens on now, one a line.
free_ports() {
    python3 - "$1" <<'PYTHON'
import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in sockets:
    s.bind(("127.0.0.1", 0))
print("\n".join(str(s.getsockname()[1]) for s in sockets))
PYTHON
}

# http METHOD URL: prints the status, or 000 where nobody answers.
http() {
    python3 - "$1" "$2" <<'PYTHON'
import sys, urllib.error, urllib.request
request = urllib.request.Request(sys.argv[2], method=sys.argv[1])
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    print(opener.open(request, timeout=5).status)
except urllib.error.HTTPError as error:
    print(error.code)
except OSError:
    print("000")
PYTHON
}

# wait_for WHAT LOG COMMAND…: until the command succeeds, at most 60 s.
wait_for() {
    local what="$1" logfile="$2" tries
    shift 2
    for tries in $(seq 300); do
        if "$@"; then return; fi
        sleep 0.2
    done
    tail -n 20 "$logfile" >&2
    die "$what did not start (tried $tries times)"
}

answers() { [ "$(http GET "$1")" = 200 ]; }

s3_named() {
    export MUSTER_TEST_S3_KIND="$1" MUSTER_TEST_S3_ENDPOINT="$2" MUSTER_TEST_S3_REGION="$3"
    export MUSTER_TEST_S3_KEY_ID="$4" MUSTER_TEST_S3_SECRET="$5"
}

moto_start() {
    local moto port
    moto="$(need_moto)"
    services_folder
    port="$(free_ports 1)"
    "$moto" -H 127.0.0.1 -p "$port" >"$SERVICES_DIR/moto.log" 2>&1 &
    SERVICE_PIDS+=("$!")
    wait_for "moto" "$SERVICES_DIR/moto.log" answers "http://127.0.0.1:$port/moto-api/"
    [ "$(http PUT "http://127.0.0.1:$port/$S3_BUCKET")" = 200 ] || die "moto does not make a bucket"
    s3_named moto "http://127.0.0.1:$port" us-east-1 AKIAMOTO "moto-secret-key"
}

GARAGE_PIDS=()

garage_node() { "$GARAGE_PROGRAM" -c "$SERVICES_DIR/garage-$1.toml" "${@:2}" 2>>"$SERVICES_DIR/garage-cli.log"; }

garage_is_whole() {
    [ "$(http GET "http://127.0.0.1:$1/health")" = 200 ] && garage_node 1 health >/dev/null
}

# Three nodes that keep three copies of everything: one of them may go.
garage_start() {
    local ports secret node at pid made key_id key
    GARAGE_PROGRAM="$(need_garage)"
    services_folder
    mapfile -t ports < <(free_ports 9)
    secret="$(python3 -c 'import secrets; print(secrets.token_hex(32))')"
    for node in 1 2 3; do
        at=$(((node - 1) * 3))
        (
            umask 077
            cat >"$SERVICES_DIR/garage-$node.toml" <<TOML
metadata_dir = "$SERVICES_DIR/garage-$node/meta"
data_dir = "$SERVICES_DIR/garage-$node/data"
db_engine = "sqlite"
replication_factor = 3
rpc_bind_addr = "127.0.0.1:${ports[at]}"
rpc_public_addr = "127.0.0.1:${ports[at]}"
rpc_secret = "$secret"
[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:${ports[at + 1]}"
[admin]
api_bind_addr = "127.0.0.1:${ports[at + 2]}"
TOML
        )
        RUST_LOG=garage=info "$GARAGE_PROGRAM" -c "$SERVICES_DIR/garage-$node.toml" server \
            >"$SERVICES_DIR/garage-$node.log" 2>&1 &
        pid=$!
        GARAGE_PIDS+=("$pid")
        SERVICE_PIDS+=("$pid")
    done
    for node in 1 2 3; do
        wait_for "node $node of Garage" "$SERVICES_DIR/garage-$node.log" garage_answers "$node"
    done
    for node in 2 3; do
        garage_node 1 node connect "$(garage_node "$node" node id -q)" >/dev/null
    done
    for node in 1 2 3; do
        garage_node 1 layout assign -z "dc$node" -c 10G "$(garage_node "$node" node id -q | cut -d@ -f1)" >/dev/null
    done
    garage_node 1 layout apply --version 1 >/dev/null
    # Made by the server: a key that is imported would stand on a command line, for all to read.
    made="$(garage_node 1 key create tests)"
    key_id="$(sed -n 's/^Key ID: *//p' <<<"$made")"
    key="$(sed -n 's/^Secret key: *//p' <<<"$made")"
    garage_node 1 bucket create "$S3_BUCKET" >/dev/null
    garage_node 1 bucket allow --read --write --owner "$S3_BUCKET" --key tests >/dev/null
    wait_for "the cluster of Garage" "$SERVICES_DIR/garage-1.log" garage_is_whole "${ports[2]}"
    s3_named garage "http://127.0.0.1:${ports[1]}" garage "$key_id" "$key"
}

garage_answers() { garage_node "$1" status >/dev/null; }

# Kills a node that no client talks to, as a power cut would.
garage_kill_one() {
    kill -9 "${GARAGE_PIDS[1]}"
    log "killed one of three nodes of Garage"
}

services_stop() {
    local pid
    for pid in "${SERVICE_PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${SERVICE_PIDS[@]}"; do wait "$pid" 2>/dev/null || true; done
    SERVICE_PIDS=()
    GARAGE_PIDS=()
    if [ -n "$SERVICES_DIR" ]; then rm -rf "$SERVICES_DIR"; fi
    SERVICES_DIR=""
}
