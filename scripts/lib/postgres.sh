# shellcheck shell=bash
# A private PostgreSQL cluster in a folder, on a Unix socket there and no TCP
# port. Sourced after tools.sh. The server refuses to run as root, so that root
# starts it as the user postgres.

# pg_new FOLDER: makes and starts the cluster; sets PG_FOLDER and PG_SOCKET.
pg_new() {
    PG_FOLDER="$1"
    PG_SOCKET="$PG_FOLDER/socket"
    mkdir -p "$PG_FOLDER" "$PG_SOCKET"
    # The kernel allows 107 bytes for a socket's path.
    [ "${#PG_SOCKET}" -le 80 ] || die "$PG_SOCKET is too long for a socket; set TMPDIR to a shorter folder"
    if is_root; then chown postgres:postgres "$PG_FOLDER" "$PG_SOCKET"; fi
    # With trust, whoever reaches the socket is let in: nobody else may.
    chmod 700 "$PG_FOLDER" "$PG_SOCKET"
    pg_as_server initdb -D "$PG_FOLDER/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 >"$PG_FOLDER.initdb.log"
    pg_as_server pg_ctl -D "$PG_FOLDER/data" -l "$PG_FOLDER/server.log" -w -t 60 \
        -o "-k $PG_SOCKET -c listen_addresses=''" start >/dev/null
}

pg_stop() {
    if [ -n "${PG_FOLDER:-}" ] && [ -e "$PG_FOLDER/data/postmaster.pid" ]; then
        pg_as_server pg_ctl -D "$PG_FOLDER/data" -m fast -w stop >/dev/null
    fi
}

pg_as_server() {
    local program="$1"
    shift
    if is_root; then
        (cd / && setpriv --reuid=postgres --regid=postgres --clear-groups \
            env HOME="$PG_FOLDER" LC_ALL=C.UTF-8 "$POSTGRES_BIN/$program" "$@")
    else
        (cd / && LC_ALL=C.UTF-8 "$POSTGRES_BIN/$program" "$@")
    fi
}

# pg PROGRAM …: a client program, connected to the cluster as its superuser.
pg() {
    local program="$1"
    shift
    env -u PGDATABASE -u PGPORT -u PGOPTIONS -u PGSERVICE PGHOST="$PG_SOCKET" PGUSER=postgres \
        "$POSTGRES_BIN/$program" "$@"
}

pg_sql() { pg psql -X -q -A -t -v ON_ERROR_STOP=1 -d "$1" -c "$2"; }

# pg_digest DATABASE: one line per table (name, rows, md5 over its ordered rows)
# and one for the schema. Equal output is an equal database.
pg_digest() {
    local database="$1" tables table rows digest
    tables="$(pg_sql "$database" "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
        WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1")"
    # Two databases without tables would be equal, and prove nothing.
    [ -n "$tables" ] || die "database $database has no tables"
    while IFS= read -r table; do
        rows="$(pg_sql "$database" "SELECT count(*) FROM $table")"
        digest="$(pg_sql "$database" "COPY (SELECT t::text FROM $table t ORDER BY t::text COLLATE \"C\") TO STDOUT" | md5sum)"
        printf '%s rows=%s md5=%s\n' "$table" "$rows" "${digest%% *}"
    done <<<"$tables"
    # pg_dump writes a random token into each dump's \restrict lines.
    digest="$(pg pg_dump --schema-only -d "$database" | grep -Ev '^\\(un)?restrict ' | md5sum)"
    printf 'schema md5=%s\n' "${digest%% *}"
}

# pgbench moves the same amounts in four tables: in a consistent copy they agree.
pgbench_sums() {
    pg_sql "$1" "SELECT (SELECT sum(abalance) FROM pgbench_accounts),
        (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(bbalance) FROM pgbench_branches),
        (SELECT coalesce(sum(delta), 0) FROM pgbench_history)"
}
