
usage() {
  say "usage: $0 --to DIR [postgres|redis|etcd]..."
  say "Writes a checked copy of each into the new folder DIR. A copy beside the data is no backup:"
  say "move DIR to another machine, and keep more than one."
  say "HASIM_PG_PASSWORD, HASIM_REDIS_PASSWORD (or ..._FILE) where the servers ask for one."
  say "Point-in-time recovery needs the WAL since the copy, too: set archive_mode = on and an"
  say "archive_command that copies to another machine (pgBackRest, WAL-G), and test the recovery."
}

pg_in() {  # pg_in HOST CONTAINER PROGRAM ARGUMENTS...: as postgres, the password not on any command line
  on "$1" exec -i -u postgres -e PGPASSWORD "$(id_of "$1" "$2")" "${@:3}"
}

# A standby if one runs: the primary has other work.
choose_pg() {
  local row host container state
  for state in t f; do
    for row in "${POSTGRES[@]}"; do
      IFS=/ read -r host container _ <<<"$row"
      if [ "$(pg_in "$host" "$container" psql -X -U postgres -d postgres -Atc 'select pg_is_in_recovery()' </dev/null 2>/dev/null)" = "$state" ]; then
        printf '%s\n' "$row"
        return 0
      fi
    done
  done
  return 1
}

backup_postgres() {
  local row host container user address port image where=()
  [ "${#POSTGRES[@]}" != 0 ] || fail "no PostgreSQL is part of this stack"
  PGPASSWORD=$(password_from HASIM_PG_PASSWORD)
  export PGPASSWORD
  row=$(choose_pg) || fail "no PostgreSQL server answers"
  IFS=/ read -r host container user address port _ <<<"$row"
  if [ -n "$address" ]; then where=(-h "$address" -p "$port"); fi
  say "PostgreSQL from $container"
  mkdir -- "$TO/postgres"
  chmod 700 "$TO/postgres"
  pg_in "$host" "$container" pg_basebackup -w -U "$user" "${where[@]}" -D - -F tar -X fetch -c fast </dev/null >"$TO/postgres.tar"
  image=$(on "$host" inspect -f '{{.Config.Image}}' "$(id_of "$host" "$container")")
  on "$host" run --rm -i --user 0 --entrypoint "" "$image" sh -c '
    set -e
    copy=$(mktemp -d)
    trap "rm -rf $copy" EXIT
    tar -x -C "$copy"
    PATH=$PATH:/usr/lib/postgresql/$(cat "$copy/PG_VERSION")/bin
    pg_verifybackup "$copy"' <"$TO/postgres.tar"
  tar -x -f "$TO/postgres.tar" -C "$TO/postgres"
  rm -f -- "$TO/postgres.tar"
  say "  pg_verifybackup accepts $TO/postgres"
}

backup_redis() {
  local row host container port
  [ "${#REDIS[@]}" != 0 ] || fail "no Redis is part of this stack"
  REDISCLI_AUTH=$(password_from HASIM_REDIS_PASSWORD)
  export REDISCLI_AUTH
  for row in "${REDIS[@]}"; do  # a replica has the same data; the master is the fallback
    IFS=/ read -r host container port _ <<<"$row"
    if [ "$(on "$host" exec -e REDISCLI_AUTH "$(id_of "$host" "$container")" redis-cli -p "$port" ROLE 2>/dev/null | head -n 1)" = slave ]; then break; fi
  done
  say "Redis from $container"
  on "$host" exec -e REDISCLI_AUTH "$(id_of "$host" "$container")" redis-cli -p "$port" --rdb - >"$TO/redis.rdb"
  on "$host" exec -i "$(id_of "$host" "$container")" sh -c \
    'cat >/tmp/hasim.rdb; redis-check-rdb /tmp/hasim.rdb; status=$?; rm -f /tmp/hasim.rdb; exit $status' <"$TO/redis.rdb" >/dev/null
  say "  redis-check-rdb accepts $TO/redis.rdb"
}

backup_etcd() {
  local row host container port id
  [ "${#ETCD[@]}" != 0 ] || fail "no etcd is part of this stack"
  IFS=/ read -r host container port <<<"${ETCD[0]}"
  id=$(id_of "$host" "$container")
  say "etcd from $container"
  on "$host" exec -e ETCDCTL_API=3 "$id" etcdctl --endpoints "http://127.0.0.1:$port" snapshot save /tmp/hasim.db
  on "$host" exec -e ETCDCTL_API=3 "$id" etcdctl snapshot status /tmp/hasim.db
  on "$host" cp "$id:/tmp/hasim.db" "$TO/etcd.db"
  on "$host" exec "$id" rm -f /tmp/hasim.db || say "  its image has no rm: /tmp/hasim.db stays in $container"
}

TO="" WHAT=()
while [ $# -gt 0 ]; do
  case $1 in
    --to) [ $# -gt 1 ] || { usage >&2; exit 2; }; TO=$2; shift ;;
    -h | --help) usage; exit 0 ;;
    postgres | redis | etcd) WHAT+=("$1") ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
[ -n "$TO" ] || { usage >&2; exit 2; }
[ ! -e "$TO" ] || fail "$TO is there already: a backup never overwrites another one"
if [ "${#WHAT[@]}" = 0 ]; then
  [ "${#POSTGRES[@]}" = 0 ] || WHAT+=(postgres)
  [ "${#REDIS[@]}" = 0 ] || WHAT+=(redis)
  [ "${#ETCD[@]}" = 0 ] || WHAT+=(etcd)
fi
umask 077
FINAL=$TO TO=$TO.part
[ ! -e "$TO" ] || fail "$TO is left from a backup that did not end: look at it, then remove it"
mkdir -p -- "$TO"
TO=$(cd "$TO" && pwd)
ended() {
  if [ "$1" != 0 ]; then printf 'the backup did not end well: %s is not complete\n' "$TO" >&2; fi
  exit "$1"
}
trap 'ended $?' EXIT
for one in "${WHAT[@]}"; do "backup_$one"; done
(cd "$TO" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 -r sha256sum >"../.hasim-sums.$$" && mv "../.hasim-sums.$$" SHA256SUMS)
mv -- "$TO" "$FINAL"
say "done: $FINAL"
