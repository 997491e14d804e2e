
usage() {
  say "usage: $0 --from DIR --into CONTAINER [--yes] postgres|redis"
  say "Puts a backup of backup.sh into one server and starts it; the others are started after it and"
  say "copy it. All of them are down meanwhile. Without --yes it refuses to touch a server that runs"
  say "or has data; with --yes the old data are kept beside as *.before-restore."
  say "etcd: etcdctl snapshot restore on every member, by hand (it makes a new cluster)."
}

verified() { (cd "$FROM" && sha256sum --quiet -c SHA256SUMS) || fail "$FROM is not what backup.sh wrote"; }

running() { [ "$(on "$1" inspect -f '{{.State.Running}}' "$(id_of "$1" "$2")")" = true ]; }

# A shell in a container that has the volumes of another one, which does not run.
beside() {  # beside HOST CONTAINER DOCKER-OPTIONS... -- SCRIPT ARGUMENTS...
  local host=$1 id image options=()
  id=$(id_of "$1" "$2")
  image=$(on "$host" inspect -f '{{.Config.Image}}' "$id")
  shift 2
  while [ "$1" != -- ]; do options+=("$1"); shift; done
  on "$host" run --rm -i --user 0 --entrypoint "" --volumes-from "$id" "${options[@]}" "$image" sh -c "$UNUSED $2" sh "${@:3}"
}

# Nothing that was put aside is ever thrown away, not by a second attempt either.
UNUSED='unused() { new=$1 n=1; while [ -e "$new" ]; do n=$((n + 1)) new=$1-$n; done; echo "$new"; }
'

mounts() { on "$1" inspect -f '{{range .Mounts}}{{println .Destination}}{{end}}' "$(id_of "$1" "$2")"; }

# Beside the folder, unless it is the top of a volume: beside it is what ends with the container.
put_aside() {  # put_aside HOST CONTAINER FOLDER
  local name=${2#service:}.before-restore volume="" options=() n=1
  if mounts "$1" "$2" | grep -qxF -e "$3"; then
    volume=$name
    while on "$1" volume inspect "$volume" >/dev/null 2>&1; do n=$((n + 1)) volume=$name-$n; done
    options=(-v "$volume:/aside")
  fi
  say "  what $2 has is kept in ${volume:+the volume }${volume:-$3.before-restore}"
  beside "$1" "$2" "${options[@]}" -- '
    set -e
    if [ ! -e "$1" ]; then exit 0; fi
    to=/aside
    if [ -z "$2" ]; then to=$(unused "$1.before-restore"); mkdir "$to"; fi
    chown "$(stat -c %u:%g "$1")" "$to"
    find "$1" -mindepth 1 -maxdepth 1 -exec mv {} "$to/" \;' "$3" "$volume" </dev/null
}

has_data() { [ -n "$(beside "$1" "$2" -- 'ls -A "$1" 2>/dev/null | head -n 1' "$3" </dev/null)" ]; }

chosen() {  # chosen ROWS...: the row of $INTO
  local row host container
  for row in "$@"; do
    IFS=/ read -r host container _ <<<"$row"
    if [ "${container#service:}" = "$INTO" ]; then printf '%s\n' "$row"; return 0; fi
  done
  return 1
}

stop_all() {  # stop_all ROWS...: HOST/CONTAINER/...
  local row host container
  for row in "$@"; do
    IFS=/ read -r host container _ <<<"$row"
    say "  stopping $container"
    on "$host" stop "$(id_of "$host" "$container")" >/dev/null
  done
}

start_others() {  # start_others ROW ROWS...: all but the first, which runs
  local row host container
  for row in "${@:2}"; do
    if [ "$row" = "$1" ]; then continue; fi
    IFS=/ read -r host container _ <<<"$row"
    say "  starting $container"
    on "$host" start "$(id_of "$host" "$container")" >/dev/null
  done
}

allowed() {  # allowed HOST CONTAINER DATA-FOLDER
  if [ "$YES" = 1 ]; then return 0; fi
  if running "$1" "$2"; then fail "$2 runs; --yes stops it"; fi
  if has_data "$1" "$2" "$3"; then fail "$2 has data in $3; --yes keeps them beside and goes on"; fi
}

redis_at() { on "$1" exec -e REDISCLI_AUTH "$2" redis-cli -p "$3" "${@:4}"; }
rewritten() { redis_at "$@" INFO persistence | tr -d '\r' | grep -qx 'aof_rewrite_in_progress:0'; }
loaded() { [ "$(redis_at "$@" PING 2>/dev/null)" = PONG ]; }

# The append-only file wins over the dump when Redis starts: off while the dump is read, then on.
restore_redis() {
  local row host container port data aof image id
  row=$(chosen "${REDIS[@]}") || fail "no Redis here is called $INTO"
  IFS=/ read -r host container port data aof <<<"$row"
  data=/${data//\%//}
  [ -s "$FROM/redis.rdb" ] || fail "$FROM holds no redis.rdb"
  allowed "$host" "$container" "$data"
  stop_all "${SENTINELS[@]}" "${REDIS[@]}"
  say "  placing the dump in $container"
  beside "$host" "$container" -- '
    set -e
    cd "$1"
    for old in dump.rdb appendonlydir appendonly.aof; do
      if [ -e "$old" ]; then mv "$old" "$(unused "$old.before-restore")"; fi
    done
    cat >dump.rdb.part
    chown "$(stat -c %u:%g .)" dump.rdb.part
    mv dump.rdb.part dump.rdb' "$data" <"$FROM/redis.rdb"
  if [ "$aof" = aof ]; then
    image=$(on "$host" inspect -f '{{.Config.Image}}' "$(id_of "$host" "$container")")
    id=$(on "$host" run -d --rm --volumes-from "$(id_of "$host" "$container")" --entrypoint redis-server "$image" \
      --port "$port" --bind 127.0.0.1 --dir "$data" --appendonly no --save "")
    wait_for "$LIMIT_S" loaded "$host" "$id" "$port" || fail "Redis does not read the dump"
    [ "$(redis_at "$host" "$id" "$port" CONFIG SET appendonly yes)" = OK ] || fail "no append-only file"
    wait_for "$LIMIT_S" rewritten "$host" "$id" "$port" || fail "the append-only file is not ready"
    redis_at "$host" "$id" "$port" SHUTDOWN NOSAVE >/dev/null 2>&1 || true
  fi
  REDISCLI_AUTH=$(password_from HASIM_REDIS_PASSWORD)
  export REDISCLI_AUTH
  on "$host" start "$(id_of "$host" "$container")" >/dev/null
  wait_for "$LIMIT_S" loaded "$host" "$(id_of "$host" "$container")" "$port" || fail "$container does not answer"
  say "  $container has $(redis_at "$host" "$(id_of "$host" "$container")" "$port" DBSIZE) keys"
  start_others "$row" "${REDIS[@]}" "${SENTINELS[@]}"
  say "A replica whose file does not say so follows $INTO after: redis-cli REPLICAOF; if $INTO's own"
  say "file names another master: redis-cli REPLICAOF NO ONE there, before clients come back."
}

answers() { on "$1" exec "$(id_of "$1" "$2")" pg_isready -q; }

restore_postgres() {
  local row other host container data scope config
  row=$(chosen "${POSTGRES[@]}") || fail "no PostgreSQL here is called $INTO"
  IFS=/ read -r host container _ _ _ data scope config <<<"$row"
  data=/${data//\%//} config=${config//\%//}
  [ -s "$FROM/postgres/PG_VERSION" ] || fail "$FROM holds no postgres/"
  allowed "$host" "$container" "$data"
  if [ -n "$scope" ] && [ "$YES" = 0 ]; then fail "the cluster $scope is forgotten and made anew; --yes does it"; fi
  stop_all "${POSTGRES[@]}"
  put_aside "$host" "$container" "$data"
  say "  placing the backup in $container"
  tar -c -C "$FROM/postgres" . | beside "$host" "$container" -- '
    set -e
    mkdir -p "$1"
    tar -x -p -C "$1" --no-same-owner
    rm -f "$1/standby.signal" "$1/recovery.signal" "$1/backup_manifest"
    chmod 700 "$1"
    if id postgres >/dev/null 2>&1; then chown -R postgres:postgres "$1"; fi' "$data"
  if [ -n "$scope" ]; then forget "$row" "$scope" "$config"; fi
  on "$host" start "$(id_of "$host" "$container")" >/dev/null
  wait_for "$LIMIT_S" answers "$host" "$container" || fail "$container takes no connections"
  say "  $container takes connections"
  if [ -n "$scope" ]; then
    for other in "${POSTGRES[@]}"; do
      if [ "$other" = "$row" ]; then continue; fi
      IFS=/ read -r host container _ _ _ data _ _ <<<"$other"
      put_aside "$host" "$container" "/${data//\%//}"
    done
    start_others "$row" "${POSTGRES[@]}"
  else
    say "Standbys: make each anew with pg_basebackup -R from $INTO; theirs is another history."
  fi
}

forget() {  # forget ROW SCOPE CONFIG: the old cluster in etcd; Patroni takes the new data as its first
  local host container id
  IFS=/ read -r host container _ <<<"$1"
  id=$(id_of "$host" "$container")
  printf '%s\nYes I am aware\n' "$2" |
    on "$host" run --rm -i --volumes-from "$id" --network "$(on "$host" inspect -f '{{.HostConfig.NetworkMode}}' "$id")" \
      --entrypoint patronictl "$(on "$host" inspect -f '{{.Config.Image}}' "$id")" -c "$3" remove "$2"
}

FROM="" INTO="" YES=0 WHAT="" LIMIT_S=120
while [ $# -gt 0 ]; do
  case $1 in
    --from) [ $# -gt 1 ] || { usage >&2; exit 2; }; FROM=$2; shift ;;
    --into) [ $# -gt 1 ] || { usage >&2; exit 2; }; INTO=$2; shift ;;
    --yes) YES=1 ;;
    -h | --help) usage; exit 0 ;;
    postgres | redis) WHAT=$1 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
if [ -z "$FROM" ] || [ -z "$INTO" ] || [ -z "$WHAT" ]; then usage >&2; exit 2; fi
[ -d "$FROM" ] || fail "there is no folder $FROM"
FROM=$(cd "$FROM" && pwd)
verified
"restore_$WHAT"
say "done: $WHAT of $FROM is in $INTO"
