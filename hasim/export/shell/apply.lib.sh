# What apply.sh and rollback.sh do. A step is: files written in place, then whatever makes the
# daemon take them, then a wait for health. $STATE remembers what was done and what was there before.

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

usage() {
  say "usage: $0 [--dry-run] [--target DIR] [--limit SECONDS] [--until STEP]"
  say "  --target DIR     the folder that holds this host's compose and configuration files now (default: .)"
  say "  --until STEP     stop after this step; the next run goes on from there"
  say "  --limit SECONDS  how long to wait for health after each step (default: 120)"
  say "Passwords come from HASIM_REDIS_PASSWORD or the file HASIM_REDIS_PASSWORD_FILE; none is kept."
}

start() {  # start ARGUMENTS...
  DRY=0 TARGET=$PWD LIMIT_S=120 UNTIL=99999 CURRENT="" LEFT=0 CHANGED=0 N=0 RESUMED=0 FRESH=0
  while [ $# -gt 0 ]; do
    case $1 in
      --dry-run) DRY=1 ;;
      --target) [ $# -gt 1 ] || { usage >&2; exit 2; }; TARGET=$2; shift ;;
      --until) [ $# -gt 1 ] || { usage >&2; exit 2; }; UNTIL=$2; shift ;;
      --limit) [ $# -gt 1 ] || { usage >&2; exit 2; }; LIMIT_S=$2; shift ;;
      -h | --help) usage; exit 0 ;;
      *) usage >&2; exit 2 ;;
    esac
    shift
  done
  case $LIMIT_S:$UNTIL in :* | *: | *[!0-9:]*) usage >&2; exit 2 ;; esac
  [ -d "$TARGET" ] || fail "there is no folder $TARGET"
  TARGET=$(cd "$TARGET" && pwd)
  STATE=$TARGET/.hasim-$ID
  local file
  of_project
  for file in "${KNOWN_FILES[@]}"; do
    [ -e "$TARGET/$file" ] || fail "$TARGET holds no $file: name the folder that is deployed with --target"
  done
  if [ -n "${HASIM_REDIS_PASSWORD_FILE:-}" ]; then HASIM_REDIS_PASSWORD=$(<"$HASIM_REDIS_PASSWORD_FILE"); fi
  if [ -n "${HASIM_REDIS_PASSWORD:-}" ]; then export REDISCLI_AUTH=$HASIM_REDIS_PASSWORD; fi
  trap 'ended $?' EXIT
  if [ "$DRY" = 1 ]; then say "dry run: nothing is changed"; else mkdir -p "$STATE"; chmod 700 "$STATE"; fi
}

ended() {
  local status=$1
  if [ "$status" != 0 ] && [ -n "$CURRENT" ]; then
    printf 'stopped in %s\n' "$CURRENT" >&2
    [ "$DRY" = 1 ] || printf '%s\n' "$ADVICE --target $TARGET" >&2
  fi
  exit "$status"
}

# ---- the journal: "begun N" and "done N" ---------------------------------------------------------
marked() { [ -e "$STATE/journal" ] && grep -qx -e "$1" "$STATE/journal"; }
mark() { [ "$DRY" = 1 ] || printf '%s\n' "$1" >>"$STATE/journal"; }

step() {  # step N TEXT VERB ARGUMENTS...
  if [ "$1" -gt "$UNTIL" ]; then LEFT=$((LEFT + 1)); return 0; fi
  N=$1 CURRENT="step $1: $2" FRESH=0 RESUMED=0
  if marked "done $1"; then say "$CURRENT: done before"; return 0; fi
  if marked "begun $1"; then RESUMED=1; fi
  say "$CURRENT"
  mark "begun $1"
  "apply_$3" "${@:4}"
  mark "done $1"
}

unstep() {  # the same, backwards; files are already restored
  N=$1 CURRENT="step $1 back: $2"
  if ! marked "begun $1"; then return 0; fi
  say "$CURRENT"
  "undo_$3" "${@:4}"
  CHANGED=$((CHANGED + 1))
}

finish() {
  CURRENT=""
  if [ "$DRY" = 1 ]; then return 0; fi
  if [ "$LEFT" != 0 ]; then say "$LEFT steps are left"; fi
  if [ "$CHANGED" = 0 ]; then say "nothing to change: everything is as exported"; else say "done: $CHANGED changes"; fi
}

does() {  # print a command and run it
  if [ "$DRY" = 1 ]; then say "  would run: $*"; return 0; fi
  say "  + $*"
  CHANGED=$((CHANGED + 1))
  "$@"
}

wait_for() {  # wait_for TEXT COMMAND...
  local i
  if [ "$DRY" = 1 ]; then say "  would wait up to ${LIMIT_S} s: $1"; return 0; fi
  for ((i = 0; i <= LIMIT_S; i += 2)); do
    if "${@:2}"; then return 0; fi
    sleep 2
  done
  fail "$1: not within $LIMIT_S s"
}

# ---- files ---------------------------------------------------------------------------------------
sha() { if [ -e "$1" ]; then sha256sum <"$1" | cut -d ' ' -f 1; else echo absent; fi; }

source_of() {  # the exported file with this hash
  local from
  for from in "$HERE/$1" "$HERE/../../stack/$1"; do
    if [ "$(sha "$from")" = "$2" ]; then printf '%s\n' "$from"; return 0; fi
  done
  fail "$1 of this export is missing or was changed since (sha256 $2)"
}

# In place: a bind mount of a single file holds on to its inode, a renamed file would not be seen.
put() {  # put PATH OLD-SHA NEW-SHA
  local to=$TARGET/$1 from is
  from=$(source_of "$1" "$3")
  is=$(sha "$to")
  if [ "$is" = "$3" ]; then return 0; fi
  if [ "$is" != "$2" ] && [ "$RESUMED" = 0 ]; then
    fail "$to is not the file that this export was made from (sha256 $is): somebody changed it"
  fi
  FRESH=1
  if [ "$DRY" = 1 ]; then say "  would write $1 in place, after a copy of it"; return 0; fi
  keep "$1"
  mkdir -p "$(dirname "$to")"
  cat -- "$from" >"$to"
  [ "$(sha "$to")" = "$3" ] || fail "$to could not be written"
  say "  wrote $1"
  CHANGED=$((CHANGED + 1))
}

keep() {
  local copy=$STATE/backup/$1
  if [ -e "$copy" ] || [ -e "$copy.absent" ]; then return 0; fi
  mkdir -p "$(dirname "$copy")"
  if [ -e "$TARGET/$1" ]; then
    cp -p -- "$TARGET/$1" "$copy.part"
    mv -- "$copy.part" "$copy"
  else
    : >"$copy.absent"
  fi
}

restore_files() {
  local path copy
  for path in "${FILES[@]}"; do
    copy=$STATE/backup/$path
    if [ -e "$copy" ] && ! cmp -s -- "$copy" "$TARGET/$path"; then
      if [ "$DRY" = 1 ]; then say "  would restore $path"; continue; fi
      cat -- "$copy" >"$TARGET/$path"
      say "  restored $path"
      CHANGED=$((CHANGED + 1))
    elif [ -e "$copy.absent" ] && [ -e "$TARGET/$path" ]; then
      does rm -f -- "$TARGET/$path"
    fi
  done
}

puts() { while [ $# -ge 3 ]; do put "$1" "$2" "$3"; shift 3; done; }

same() {  # after puts: nothing was written, and no step was cut short
  if [ "$FRESH" = 1 ] || [ "$RESUMED" = 1 ]; then return 1; fi
  say "  already as exported"
}

apply_files() { puts "$@"; same || true; }
undo_files() { :; }

# ---- Docker --------------------------------------------------------------------------------------
on() {  # on HOST DOCKER-ARGUMENTS...: this host's engine, or that of a docker context of that name
  if [ "$1" = "$HOST" ]; then docker "${@:2}"; else docker --context "$1" "${@:2}"; fi
}

id_of() {  # id_of HOST CONTAINER: a name, or service:NAME for one whose name compose makes
  if [ "${2#service:}" = "$2" ]; then printf '%s\n' "$2"; return 0; fi
  on "$1" ps -a -q --filter "label=com.docker.compose.service=${2#service:}" | head -n 1
}
name_of() { id_of "$HOST" "$1"; }

compose() {
  local files=() file
  for file in "${COMPOSE_FILES[@]}"; do files+=(-f "$file"); done
  if docker compose version >/dev/null 2>&1; then
    (cd "$TARGET" && docker compose "${files[@]}" "$@")
  else
    (cd "$TARGET" && docker-compose "${files[@]}" "$@")
  fi
}

# Not every project is called like its folder (`compose -p`): its containers know.
of_project() {
  local container project
  for container in "${CONTAINERS[@]}"; do
    project=$(docker inspect -f '{{index .Config.Labels "com.docker.compose.project"}}' "$(name_of "$container")" 2>/dev/null) || continue
    if [ -n "$project" ]; then export COMPOSE_PROJECT_NAME=$project; return 0; fi
  done
}

# Equality: "unhealthy" contains "healthy". Without a health check: it runs.
healthy() {
  local status
  status=$(docker inspect -f '{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}' "$(name_of "$1")") || return 1
  [ "$status" = healthy ] || [ "$status" = running ]
}

settled() {  # settled CONTAINER: healthy, and still so a moment later
  wait_for "$1 is healthy" healthy "$1"
  if [ "$DRY" = 0 ]; then sleep 3; healthy "$1" || fail "$1 does not stay healthy"; fi
}

apply_start() { does compose up -d --no-deps "$1"; settled "$2"; }  # SERVICE CONTAINER
undo_start() { does docker rm -f "$(name_of "$2")"; }

apply_remove() {  # SERVICE CONTAINER [HOST/BALANCER/BACKEND/SERVER]...
  local at
  for at in "${@:3}"; do set_state "$at" drain; done
  for at in "${@:3}"; do drained "$at"; done
  does docker stop "$(name_of "$2")"
  does docker rm "$(name_of "$2")"
}
undo_remove() { does compose up -d --no-deps "$1"; settled "$2"; }

# recreate SERVICE CONTAINER DRAINS SETTLE-SECONDS [HOST/BALANCER/BACKEND/SERVER]...
apply_recreate() {
  local at
  if [ "$DRY" = 0 ]; then tells "${@:5}"; fi
  if [ "$3" = 1 ]; then
    for at in "${@:5}"; do set_state "$at" drain; done
    for at in "${@:5}"; do drained "$at"; done
  fi
  does compose up -d --no-deps "$1"
  settled "$2"
  if [ "$3" = 1 ]; then for at in "${@:5}"; do set_state "$at" ready; done; fi
  believed "$4" "${@:5}"
}

# HAProxy calls a server UP until its checks have found out: ask, wait for that long, ask again.
believed() {  # believed SETTLE-SECONDS HOST/BALANCER/BACKEND/SERVER...
  local at
  if [ $# = 1 ]; then return 0; fi
  for at in "${@:2}"; do wait_for "${at#*/} is UP" server_is "$at" UP; done
  if [ "$DRY" = 1 ]; then return 0; fi
  sleep "$1"
  for at in "${@:2}"; do wait_for "${at#*/} stays UP" server_is "$at" UP; done
}
undo_recreate() { apply_recreate "$@"; }

apply_restart() {  # restart SERVICE CONTAINER [PATH OLD NEW]...
  puts "${@:3}"
  if same; then return 0; fi
  undo_restart "$@"
}
undo_restart() { does compose restart "$1"; settled "$2"; }

# ---- HAProxy -------------------------------------------------------------------------------------
stat_of() { haproxy_says "$1" "$2" "show stat"; }

tells() {  # tells HOST/BALANCER/BACKEND/SERVER...: before anything is touched
  local at host container rest
  for at in "$@"; do
    IFS=/ read -r host container rest <<<"$at"
    stat_of "$host" "$container" >/dev/null || fail "HAProxy in $container tells nothing of $rest: it is down, or its image lacks nc, socat or wget"
  done
}

server_is() {  # server_is HOST/BALANCER/BACKEND/SERVER STATUS
  local host container backend server
  IFS=/ read -r host container backend server <<<"$1"
  [ "$(stat_of "$host" "$container" | awk -F, -v b="$backend" -v s="$server" '$1 == b && $2 == s { print $18 }')" = "$2" ]
}

no_sessions() {
  local host container backend server
  IFS=/ read -r host container backend server <<<"$1"
  # a HAProxy that no longer knows the server has no sessions with it
  stat_of "$host" "$container" | awk -F, -v b="$backend" -v s="$server" '$1 == b && $2 == s && $5 != 0 { busy = 1 } END { exit busy }'
}

set_state() {  # set_state HOST/BALANCER/BACKEND/SERVER STATE
  local host container backend server
  IFS=/ read -r host container backend server <<<"$1"
  does haproxy_says "$host" "$container" "set server $backend/$server state $2"
}

drained() {  # sessions that do not end: the grace period of the container ends them
  local i
  if [ "$DRY" = 1 ]; then say "  would wait until ${1#*/} has no sessions"; return 0; fi
  for ((i = 0; i < 30; i++)); do
    if no_sessions "$1"; then return 0; fi
    sleep 1
  done
  say "  ${1#*/} still has sessions; its grace period ends them"
}

ups() { stat_of "$HOST" "$1" | awk -F, '$2 != "FRONTEND" && $2 != "BACKEND" && $18 ~ /^UP/ { print $1 "/" $2 }' | sort; }

still_up() {  # still_up CONTAINER SERVERS: every one of them that the new file still has is UP
  local now all server
  now=$(ups "$1") || return 1
  all=$(stat_of "$HOST" "$1" | awk -F, '{ print $1 "/" $2 }') || return 1
  for server in $2; do
    if grep -qxF -e "$server" <<<"$all" && ! grep -qxF -e "$server" <<<"$now"; then return 1; fi
  done
}

new_worker() {  # new_worker CONTAINER OLD-PIDS: a process that was not there before
  local pid
  for pid in $(docker exec "$(name_of "$1")" pidof haproxy); do
    case " $2 " in *" $pid "*) ;; *) return 0 ;; esac
  done
  return 1
}

reload_haproxy() {
  local pids="" up=""
  if [ "$DRY" = 0 ]; then pids=$(docker exec "$(name_of "$1")" pidof haproxy); up=$(ups "$1"); fi
  does docker kill -s USR2 "$(name_of "$1")"
  wait_for "$1 has a new worker" new_worker "$1" "$pids"
  wait_for "the servers of $1 are UP again" still_up "$1" "$up"
}

apply_haproxy_reload() {  # CONTAINER CONFIG-INSIDE PATH OLD NEW [PATH OLD NEW]...
  local from
  from=$(source_of "$3" "$5")
  if [ "$DRY" = 1 ]; then
    say "  would run: docker exec -i $1 haproxy -c -f /dev/stdin < $3"
  else
    docker exec -i "$(name_of "$1")" haproxy -c -f /dev/stdin <"$from" || fail "haproxy in $1 refuses $3"
    stat_of "$HOST" "$1" >/dev/null || fail "HAProxy in $1 tells nothing: it is down, or its image lacks nc, socat or wget"
  fi
  puts "${@:3}"
  if same; then return 0; fi
  reload_haproxy "$1"
}
undo_haproxy_reload() {
  does docker exec "$(name_of "$1")" haproxy -c -f "$2"
  reload_haproxy "$1"
}

# ---- keepalived, Prometheus: a hang-up after the daemon's own check ------------------------------
apply_hang_up() {  # hang_up CONTAINER CHECK [PATH OLD NEW]...; CHECK runs inside
  puts "${@:3}"
  if same; then return 0; fi
  undo_hang_up "$@"
}
undo_hang_up() {
  does docker exec "$(name_of "$1")" sh -c "$2"
  does docker kill -s HUP "$(name_of "$1")"
  settled "$1"
}

# ---- Redis and Sentinel: the running process first; it writes its own file -----------------------
redis() {  # redis CONTAINER PORT WORDS...; a Sentinel mostly asks for no password
  docker exec -e REDISCLI_AUTH "$(name_of "$1")" redis-cli -p "$2" "${@:3}" 2> >(grep -v 'called without any password' >&2)
}

redis_ok() {  # redis-cli ends well on an error, too: look at what it says
  local answer
  answer=$(redis "$@")
  [ "$answer" = OK ] || fail "redis-cli in $1 says: $answer"
}

config_of() { redis "$1" "$2" CONFIG GET "$3" | sed -n 2p; }

rewrite() {  # rewrite CONTAINER PORT: Redis writes its file, if it can
  local answer
  answer=$(redis "$1" "$2" CONFIG REWRITE)
  [ "$answer" = OK ]
}

apply_redis_set() {  # CONTAINER PORT NAME VALUE PATH OLD NEW
  if [ "$DRY" = 0 ]; then
    [ -e "$STATE/$N.was" ] || config_of "$1" "$2" "$3" >"$STATE/$N.was"
  fi
  does redis_ok "$1" "$2" CONFIG SET "$3" "$4"
  if [ "$DRY" = 1 ]; then say "  would run: redis $1 $2 CONFIG REWRITE"; return 0; fi
  rewrite "$1" "$2" || put_if_known "${@:5}"
}
undo_redis_set() {
  [ -e "$STATE/$N.was" ] || return 0
  does redis_ok "$1" "$2" CONFIG SET "$3" "$(<"$STATE/$N.was")"
  if [ "$DRY" = 0 ]; then rewrite "$1" "$2" || true; fi
}

put_if_known() {  # a file that the daemon has not made its own
  if [ "$(sha "$TARGET/$1")" = "$2" ]; then put "$@"; fi
}

# A directive for which Redis must start again. Only that line changes: Redis and Sentinel keep
# other things in this file, too.
apply_redis_line() {  # CONTAINER SERVICE PATH NAME VALUE PORT
  local text=$TARGET/$3 new
  new=$(awk -v n="$4" -v v="$5" 'tolower($1) == n { if (!done) print n " " v; done = 1; next } { print } END { if (!done) print n " " v }' "$text")
  if [ "$new" = "$(<"$text")" ] && [ "$RESUMED" = 0 ]; then say "  already as exported"; return 0; fi
  if [ "$DRY" = 1 ]; then say "  would write the line '$4 $5' into $3"; else
    keep "$3"
    printf '%s\n' "$new" >"$text"
    CHANGED=$((CHANGED + 1))
  fi
  undo_redis_line "$@"
}
undo_redis_line() {
  does compose restart "$2"
  settled "$1"
  wait_for "$1 has the data of its master" in_step "$1" "$6"
}

quorum() { case $(redis "$1" "$2" SENTINEL CKQUORUM "$3") in OK*) ;; *) return 1 ;; esac; }
sentinel_value() { redis "$1" "$2" SENTINEL MASTER "$3" | awk -v k="$4" 'found { print; exit } $0 == k { found = 1 }'; }

apply_sentinel_set() {  # CONTAINER PORT MASTER NAME VALUE PATH OLD NEW
  wait_for "$1 has a quorum" quorum "$1" "$2" "$3"
  if [ "$DRY" = 0 ]; then
    [ -e "$STATE/$N.was" ] || sentinel_value "$1" "$2" "$3" "$4" >"$STATE/$N.was"
  fi
  if [ "$DRY" = 0 ] && [ "$(sentinel_value "$1" "$2" "$3" "$4")" = "$5" ]; then
    say "  already as exported"
  else
    does redis_ok "$1" "$2" SENTINEL SET "$3" "$4" "$5"
  fi
  if [ "$DRY" = 0 ]; then put_if_known "${@:6}"; fi
  wait_for "$1 has a quorum" quorum "$1" "$2" "$3"
}
undo_sentinel_set() {
  [ -e "$STATE/$N.was" ] || return 0
  does redis_ok "$1" "$2" SENTINEL SET "$3" "$4" "$(<"$STATE/$N.was")"
  wait_for "$1 has a quorum" quorum "$1" "$2" "$3"
}

role_of() { redis "$1" "$2" ROLE | sed -n 1p; }
in_step() {  # a master, or a replica that has caught up: only then the next one may go
  case $(redis "$1" "$2" ROLE | sed -n '1p;4p' | tr '\n' ' ') in "master "* | "slave connected "*) ;; *) return 1 ;; esac
}
is_replica() { [ "$(role_of "$1" "$2")" = slave ]; }

apply_redis_hand_over() {  # CONTAINER PORT SENTINEL SENTINEL-PORT MASTER: replicas first, so let go
  if [ "$DRY" = 0 ]; then
    case $(role_of "$1" "$2") in
      slave) say "  is a replica"; return 0 ;;
      master) ;;
      *) fail "Redis in $1 does not tell its role: is HASIM_REDIS_PASSWORD right?" ;;
    esac
  fi
  does redis_ok "$3" "$4" SENTINEL FAILOVER "$5"
  wait_for "$1 is a replica" is_replica "$1" "$2"
}
undo_redis_hand_over() { apply_redis_hand_over "$@"; }

# ---- Patroni and PostgreSQL ----------------------------------------------------------------------
patroni() {  # patroni CONTAINER CONFIG-INSIDE ARGUMENTS...; reads its standard input
  if [ -n "$2" ]; then docker exec -i "$(name_of "$1")" patronictl -c "$2" "${@:3}"; else docker exec -i "$(name_of "$1")" patronictl "${@:3}"; fi
}

members() { patroni "$1" "$2" list -f tsv </dev/null | tail -n +2; }
patroni_well() {  # one leader, and every member runs
  members "$1" "$2" | awk -F '\t' '$4 == "Leader" { n++ } $5 != "running" && $5 != "streaming" { bad = 1 } END { exit !(n == 1 && !bad) }'
}
leads() { members "$1" "$2" | awk -F '\t' -v m="$3" '$2 == m && $4 == "Leader" { yes = 1 } END { exit !yes }'; }
follows() { ! leads "$@"; }

apply_patroni_dcs() {  # CONTAINER CONFIG-INSIDE NAME=VALUE...: the same for every member, so once
  local sets=() one before
  for one in "${@:3}"; do sets+=(-s "$one"); done
  if [ "$DRY" = 1 ]; then say "  would run: patronictl edit-config --force ${sets[*]}"; return 0; fi
  before=$(patroni "$1" "$2" show-config </dev/null)
  [ -e "$STATE/$N.dcs" ] || printf '%s\n' "$before" >"$STATE/$N.dcs"
  patroni "$1" "$2" edit-config --force --quiet "${sets[@]}" </dev/null
  if [ "$(patroni "$1" "$2" show-config </dev/null)" = "$before" ] && [ "$RESUMED" = 0 ]; then
    rm -f -- "$STATE/$N.dcs"
    say "  already as exported"
    return 0
  fi
  CHANGED=$((CHANGED + 1))
  wait_for "the cluster of $1 has a leader and all members run" patroni_well "$1" "$2"
}
undo_patroni_dcs() {
  [ -e "$STATE/$N.dcs" ] || return 0
  if [ "$DRY" = 1 ]; then say "  would run: patronictl edit-config --force --replace"; return 0; fi
  patroni "$1" "$2" edit-config --force --quiet --replace - <"$STATE/$N.dcs"
  wait_for "the cluster of $1 has a leader and all members run" patroni_well "$1" "$2"
}

apply_patroni_reload() {  # CONTAINER CONFIG-INSIDE SCOPE MEMBER [PATH OLD NEW]...
  puts "${@:5}"
  if same; then return 0; fi
  undo_patroni_reload "$@"
}
undo_patroni_reload() {
  does patroni "$1" "$2" reload --force "$3" "$4" </dev/null
  wait_for "the cluster of $1 has a leader and all members run" patroni_well "$1" "$2"
}

# Patroni says in its next cycle, not at once, that a member waits for a restart.
awaits_restart() {
  patroni "$1" "$2" list -f tsv </dev/null | awk -F '\t' -v m="$3" '
    NR == 1 { for (i = 1; i <= NF; i++) if ($i == "Pending restart") at = i; next }
    at && $2 == m && $at != "" { yes = 1 } END { exit !yes }'
}
pending() {  # pending CONTAINER CONFIG-INSIDE MEMBER: true in a dry run, too
  local i
  if [ "$DRY" = 1 ]; then return 0; fi
  if [ "${NOT_PENDING:-}" = "$3" ]; then return 1; fi
  for ((i = 0; i < 45; i += 3)); do
    if awaits_restart "$@"; then return 0; fi
    sleep 3
  done
  NOT_PENDING=$3
  return 1
}

# Refused for some seconds after a replica came back: Patroni names a synchronous one in its cycle.
switchover() {  # CONTAINER CONFIG-INSIDE SCOPE MEMBER
  local i
  for ((i = 0; i <= LIMIT_S; i += 3)); do
    patroni "$1" "$2" switchover --force --leader "$4" "$3" </dev/null
    if follows "$1" "$2" "$4"; then return 0; fi
    sleep 3
  done
}

apply_patroni_hand_over() {  # CONTAINER CONFIG-INSIDE SCOPE MEMBER [pending]: the leader is updated last
  wait_for "the cluster of $1 has a leader and all members run" patroni_well "$1" "$2"
  if [ "$DRY" = 0 ] && follows "$1" "$2" "$4"; then say "  is a replica"; return 0; fi
  if [ -n "${5:-}" ] && ! pending "$1" "$2" "$4"; then say "  no restart is pending"; return 0; fi
  does switchover "$@"
  NOT_PENDING=$4  # who hands over starts again
  wait_for "$4 is a replica" follows "$1" "$2" "$4"
  wait_for "the cluster of $1 has a leader and all members run" patroni_well "$1" "$2"
}
undo_patroni_hand_over() { apply_patroni_hand_over "$@"; }

apply_patroni_restart() {  # CONTAINER CONFIG-INSIDE SCOPE MEMBER: only where a restart is pending
  if ! pending "$1" "$2" "$4"; then say "  no restart is pending"; return 0; fi
  does patroni "$1" "$2" restart --force --pending "$3" "$4" </dev/null
  wait_for "the cluster of $1 has a leader and all members run" patroni_well "$1" "$2"
  if [ "$DRY" = 0 ] && awaits_restart "$1" "$2" "$4"; then say "  still waits for a restart: see ROLLOUT.md, By hand"; fi
}
undo_patroni_restart() { apply_patroni_restart "$@"; }

sql() { docker exec -u postgres "$(name_of "$1")" psql -X -v ON_ERROR_STOP=1 -U postgres -d postgres -Atc "$2"; }
is_ready() { docker exec "$(name_of "$1")" pg_isready -q; }

apply_alter_system() {  # CONTAINER SERVICE NAME VALUE restart|reload [PATH OLD NEW]
  puts "${@:6}"
  if [ "$DRY" = 0 ] && [ ! -e "$STATE/$N.was" ]; then
    sql "$1" "select setting from pg_file_settings where name = '$3' and sourcefile like '%auto.conf'" >"$STATE/$N.was"
  fi
  does sql "$1" "ALTER SYSTEM SET $3 = '$4'"
  again "$1" "$2" "$5"
}
undo_alter_system() {
  local was
  [ -e "$STATE/$N.was" ] || return 0
  was=$(<"$STATE/$N.was")
  if [ -n "$was" ]; then does sql "$1" "ALTER SYSTEM SET $3 = '$was'"; else does sql "$1" "ALTER SYSTEM RESET $3"; fi
  again "$1" "$2" "$5"
}
again() {
  if [ "$3" = restart ]; then does compose restart "$2"; else does sql "$1" "select pg_reload_conf()"; fi
  wait_for "$1 takes connections" is_ready "$1"
}
