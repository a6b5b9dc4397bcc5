# shellcheck shell=bash
# Tools that tests, demo and benchmarks need: each need_NAME function makes
# sure that the tool is there and prints its path (need_postgres: its bin folder).
# Sourced, never run. Log lines go to stderr, so that stdout is the answer alone.
#
# As root, missing tools come from Debian's packages. Otherwise single packages
# are unpacked into .tools/, and what cannot live there is a clear error.

# A failure inside $(…) must end the script too.
shopt -s inherit_errexit

REPO_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
TOOLS_DIR="$REPO_ROOT/.tools"
POSTGRES_MAJOR=15
POSTGRES_BIN="/usr/lib/postgresql/$POSTGRES_MAJOR/bin"
# The newest that the toolchain of rust-version in Cargo.toml builds. Pinned, so
# that two benchmark runs compare with the same peer.
RUSTIC_VERSION=0.11.4

export PATH="$TOOLS_DIR/bin:$TOOLS_DIR/deb/usr/bin:$PATH"

log() { printf '%s\n' "$*" >&2; }
die() { log "error: $*"; exit 1; }

is_root() { [ "$(id -u)" -eq 0 ]; }

# One update serves every script of one run, subshells included, so that its
# being done is a file and not a variable.
apt_update_once() {
    local stamp="$TOOLS_DIR/apt-updated"
    mkdir -p "$TOOLS_DIR"
    if [ -z "$(find "$stamp" -mmin -60 2>/dev/null)" ]; then
        log "apt-get update"
        apt-get -o DPkg::Lock::Timeout=120 -qq update >&2
        touch "$stamp"
    fi
}

apt_install() {
    apt_update_once
    log "apt-get install $*"
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -qq install -y \
        --no-install-recommends "$@" >&2
}

# Without root a package can still be unpacked; that serves programs that need
# nothing beside themselves and libraries every Debian has.
deb_unpack() {
    local package="$1" scratch
    scratch="$(mktemp -d)"
    log "unpacking $package into .tools/deb"
    (cd "$scratch" && apt-get -qq download "$package" >&2) ||
        die "cannot download $package; as root: apt-get install $package"
    mkdir -p "$TOOLS_DIR/deb"
    dpkg-deb -x "$scratch"/*.deb "$TOOLS_DIR/deb"
    rm -rf "$scratch"
}

# need PROGRAM PACKAGE: prints the program's path, after installing the package
# where it is missing.
need() {
    local program="$1" package="$2"
    if ! type -P "$program" >/dev/null; then
        type -P apt-get >/dev/null ||
            die "$program is missing and there is no apt-get here; install $package"
        if is_root; then apt_install "$package"; else deb_unpack "$package"; fi
        hash -r
    fi
    type -P "$program" || die "$program is still missing after installing $package"
}

# The same for what does not work unpacked (a server, a compiler).
need_installed() {
    local program="$1" package="$2"
    if ! type -P "$program" >/dev/null && ! is_root; then
        die "$program is missing; as root: apt-get install $package"
    fi
    need "$program" "$package"
}

need_age() { need age age; }
need_age_keygen() { need age-keygen age; }
need_zstd() { need zstd zstd; }
need_setfacl() { need setfacl acl; }
need_getfattr() { need getfattr attr; }
need_shellcheck() { need shellcheck shellcheck; }
need_time() { need time time; }
need_python3() { need_installed python3 python3; }
need_restic() { need restic restic; }
need_borg() { need_installed borg borgbackup; }

# Debian's package creates and starts a server of its own when it is installed.
# Nothing here uses it, so it is told not to, for this one installation.
install_postgres() {
    local folder=/etc/postgresql-common/createcluster.d
    local dropin="$folder/no-main-cluster.conf" status=0
    mkdir -p "$folder"
    printf 'create_main_cluster = false\n' >"$dropin"
    apt_install "postgresql-$POSTGRES_MAJOR" || status=$?
    rm -f "$dropin"
    return "$status"
}

need_postgres() {
    local program
    if [ ! -x "$POSTGRES_BIN/initdb" ]; then
        is_root || die "PostgreSQL $POSTGRES_MAJOR is missing; as root: apt-get install postgresql-$POSTGRES_MAJOR"
        install_postgres
    fi
    for program in initdb pg_ctl postgres psql createdb dropdb pg_dump pg_restore pgbench; do
        [ -x "$POSTGRES_BIN/$program" ] || die "$POSTGRES_BIN/$program is missing"
    done
    printf '%s\n' "$POSTGRES_BIN"
}

# Building needs a C compiler for the crates that hold C code.
need_cargo() {
    type -P cargo >/dev/null || die "cargo is missing: install Rust (rust-version stands in Cargo.toml)"
    if ! type -P cc >/dev/null; then
        is_root || die "cc is missing; as root: apt-get install gcc libc6-dev"
        apt_install gcc libc6-dev
    fi
    type -P cargo
}

need_nextest() {
    need_cargo >/dev/null
    if ! type -P cargo-nextest >/dev/null; then
        log "cargo install cargo-nextest (some minutes, once)"
        cargo install cargo-nextest --locked --root "$TOOLS_DIR" >&2
        hash -r
    fi
    type -P cargo-nextest || die "cargo-nextest is still missing after installing it"
}

# Without its default features rustic loses a terminal interface, metrics and a
# WebDAV server, none of which takes part in a backup, and builds much faster.
need_rustic() {
    local rustic="$TOOLS_DIR/rustic/bin/rustic"
    need_cargo >/dev/null
    if [ ! -x "$rustic" ]; then
        log "cargo install rustic-rs $RUSTIC_VERSION (ten minutes or so, once)"
        nice -n 10 cargo install rustic-rs --version "$RUSTIC_VERSION" --locked \
            --no-default-features --root "$TOOLS_DIR/rustic" >&2
    fi
    printf '%s\n' "$rustic"
}
