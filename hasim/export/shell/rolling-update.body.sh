
LIMIT_S=120 DRAIN_S=30 PAUSE_S=5 FORCE=0 PULL=1 DRY=0 TARGET=$PWD WANTED=()

usage() {
  say "usage: $0 [--dry-run] [--force] [--no-pull] [--target DIR] [--limit SECONDS] [SERVICE...]"
  say "Updates one instance after the other to the image that its tag names now: $SERVICES."
  say "  --no-pull  the image is on the host already (docker build, docker load): ask no registry"
  say "Several hosts: a docker context per host, named like it; HASIM_HOST names the one you are on."
}

column() {  # column HOST/BALANCER/BACKEND/SERVER N: of `show stat`: 5 sessions, 18 status
  local host container backend server
  IFS=/ read -r host container backend server <<<"$1"
  haproxy_says "$host" "$container" "show stat" | awk -F, -v b="$backend" -v s="$server" -v n="$2" '$1 == b && $2 == s { print $n }'
}
server_is() { [ "$(column "$1" 18)" = "$2" ]; }
no_sessions() { [ "$(column "$1" 5)" = 0 ]; }

set_state() {  # set_state HOST/BALANCER/BACKEND/SERVER STATE
  local host container backend server
  IFS=/ read -r host container backend server <<<"$1"
  haproxy_says "$host" "$container" "set server $backend/$server state $2" >/dev/null
}

others_up() {  # others_up HOST/BALANCER/BACKEND/SERVER: all other servers of that backend are UP
  local host container backend server
  IFS=/ read -r host container backend server <<<"$1"
  haproxy_says "$host" "$container" "show stat" |
    awk -F, -v b="$backend" -v s="$server" '$1 == b && $2 != s && $2 != "FRONTEND" && $2 != "BACKEND" && $18 !~ /^(UP|no check)/ { bad = 1 } END { exit bad }'
}

# bring_up HOST SERVICE CONTAINER UP-OPTION SETTLE-SECONDS SERVERS...; false: not well in time.
# HAProxy calls a server UP until its checks have found out: ask, wait for that long, ask again.
bring_up() {
  local at
  compose_on "$1" up -d --no-deps ${4:+"$4"} "$2" || return 1
  wait_for "$LIMIT_S" healthy "$1" "$3" || return 1
  for at in "${@:6}"; do set_state "$at" ready || return 1; done
  for at in "${@:6}"; do wait_for "$LIMIT_S" server_is "$at" UP || return 1; done
  sleep "$5"
  for at in "${@:6}"; do wait_for "$LIMIT_S" server_is "$at" UP || return 1; done
  healthy "$1" "$3"
}

# update HOST SERVICE CONTAINER SETTLE-SECONDS HOST/BALANCER/BACKEND/SERVER...
update() {
  local host=$1 service=$2 container=$3 settle_s=$4 at image previous wanted
  say "$service on $host"
  if [ "$DRY" = 1 ]; then
    say "  would $([ "$PULL" = 0 ] || echo "pull its image, ")drain ${*:5}, replace $container, wait until it is healthy and UP"
    return 0
  fi
  for at in "${@:5}"; do others_up "$at" || fail "another server of ${at#*/} is not UP: not now"; done
  project_of "$host" "$container"
  image=$(on "$host" inspect -f '{{.Config.Image}}' "$(id_of "$host" "$container")")
  previous=$(on "$host" inspect -f '{{.Image}}' "$(id_of "$host" "$container")")
  if [ "$PULL" = 1 ]; then
    compose_on "$host" pull "$service" || fail "the image of $service cannot be pulled; nothing was touched (--no-pull: it is there)"
  fi
  wanted=$(on "$host" image inspect -f '{{.Id}}' "$image")
  if [ "$wanted" = "$previous" ] && [ "$FORCE" = 0 ]; then say "  already runs $wanted"; return 0; fi
  for at in "${@:5}"; do set_state "$at" drain; done
  for at in "${@:5}"; do
    wait_for "$DRAIN_S" no_sessions "$at" || say "  ${at#*/} still has sessions; its grace period ends them"
  done
  if bring_up "$host" "$service" "$container" "$([ "$FORCE" = 0 ] || echo --force-recreate)" "$settle_s" "${@:5}"; then
    say "  updated"
    UPDATED=$((UPDATED + 1))
    return 0
  fi
  printf '%s did not come up well; back to %s\n' "$service" "$previous" >&2
  on "$host" tag "$previous" "$image"
  if bring_up "$host" "$service" "$container" --force-recreate "$settle_s" "${@:5}"; then
    fail "the update of $service was taken back; instances after it were not touched"
  fi
  # whatever runs there: HAProxy's own checks judge it, a drained server would only be missing
  if healthy "$host" "$container"; then for at in "${@:5}"; do set_state "$at" ready || true; done; fi
  fail "$service does not come up with its previous image either: look at it by hand"
}

wanted() {  # wanted SERVICE-OF-THE-PROFILE
  local one
  [ "${#WANTED[@]}" != 0 ] || return 0
  for one in "${WANTED[@]}"; do if [ "$one" = "$1" ]; then return 0; fi; done
  return 1
}

pause() { if [ "$DRY" = 0 ]; then sleep "$PAUSE_S"; fi; }

while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) DRY=1 ;;
    --force) FORCE=1 ;;
    --no-pull) PULL=0 ;;
    --target) [ $# -gt 1 ] || { usage >&2; exit 2; }; TARGET=$2; shift ;;
    --limit) [ $# -gt 1 ] || { usage >&2; exit 2; }; LIMIT_S=$2; shift ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
    *) case " $SERVICES " in *" $1 "*) WANTED+=("$1") ;; *) usage >&2; exit 2 ;; esac ;;
  esac
  shift
done
UPDATED=0
