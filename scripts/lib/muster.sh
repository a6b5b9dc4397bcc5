# shellcheck shell=bash
# The muster binary that demo and benchmarks drive. Sourced after tools.sh.

# Prints the binary's path: MUSTER_BIN as it stands, or a fresh release build.
muster_binary() {
    if [ -n "${MUSTER_BIN:-}" ]; then
        [ -x "$MUSTER_BIN" ] || die "MUSTER_BIN=$MUSTER_BIN is not an executable file"
        realpath "$MUSTER_BIN"
        return
    fi
    need_cargo >/dev/null
    (cd "$REPO_ROOT" && cargo build --release --locked >&2)
    printf '%s/release/muster\n' "$(cargo_target_dir)"
}

cargo_target_dir() {
    (cd "$REPO_ROOT" && cargo metadata --format-version 1 --no-deps --locked) |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])'
}

# Settings that a person has in the environment must not steer a run that says
# what it does.
forget_muster_settings() {
    local name
    for name in $(compgen -e MUSTER_ || true); do
        case "$name" in
        MUSTER_BIN | MUSTER_BENCH_DIR | MUSTER_TEST_FULL) ;;
        *) unset "$name" ;;
        esac
    done
}
