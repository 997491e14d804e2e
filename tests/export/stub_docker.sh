#!/usr/bin/env bash
# docker, docker-compose and sleep for tests: answers from files in $STUB, and writes down what it
# was asked. The call number $STUB_FAIL_AT of those that change something fails.
set -euo pipefail
name=$(basename "$0")
printf '%s%s %s\n' "${COMPOSE_PROJECT_NAME:+$COMPOSE_PROJECT_NAME }" "$name" "$*" >>"$STUB/log"
if [ "$name" = sleep ]; then exit 0; fi
if [ "$name" = docker-compose ]; then set -- compose "$@"; fi
if [ "$1" = --context ]; then shift 2; fi

changes() {
  local n
  n=$(($(cat "$STUB/count" 2>/dev/null || echo 0) + 1))
  echo "$n" >"$STUB/count"
  printf '%s\n' "$*" >>"$STUB/changes"
  if [ "$n" = "${STUB_FAIL_AT:-0}" ]; then echo "stub: fails" >&2; exit 1; fi
}
value() { cat "$STUB/$1" 2>/dev/null || echo "$2"; }

if [ "$1" = compose ]; then
  if [ "${2:-}" = version ]; then [ ! -e "$STUB/v1" ]; exit; fi
  words=" $* "
  service=${!#}
  case $words in
    *" up "* | *" restart "*)
      changes "$name ${words##*.yml }"
      if [ -e "$STUB/next/$service" ]; then cp "$STUB/next/$service" "$STUB/health.$service"; fi ;;
    *" pull "*) changes "pull $service"; cp "$STUB/pulled" "$STUB/image" 2>/dev/null || true ;;
  esac
  exit 0
fi

csv() {
  echo "# pxname,svname,qcur,qmax,scur,smax"
  while IFS=, read -r backend server sessions status; do
    echo "$backend,$server,0,0,$sessions,0,0,0,0,0,0,0,0,0,0,0,0,$status,1,1"
  done <"$STUB/stat"
}
set_server() {  # BACKEND/SERVER state STATE
  local to=$3
  case $to in drain) to=DRAIN ;; ready) to=$(value ready UP) ;; esac
  awk -F, -v OFS=, -v w="$1" -v to="$to" '$1 "/" $2 == w { $4 = to } { print }' "$STUB/stat" >"$STUB/stat.new"
  mv "$STUB/stat.new" "$STUB/stat"
}
patroni() {
  case $1 in
    list) value header "$(printf 'Cluster\tMember\tHost\tRole\tState\tTL\tLag')"; cat "$STUB/members" ;;
    show-config) cat "$STUB/dcs" ;;
    edit-config)
      if [ "$4" = --replace ]; then changes "dcs replaced"; cat >"$STUB/dcs"; exit; fi
      changes "edit-config ${*:4}"
      shift 3
      while [ $# -gt 0 ]; do
        sed -i "/^${2%%=*}:/d" "$STUB/dcs"
        echo "${2%%=*}: ${2#*=}" >>"$STUB/dcs"
        shift 2
      done ;;
    switchover)
      changes "switchover"
      sed -i -e 's/\tLeader\trunning/\tReplica\tstreaming/;t' -e 's/\tpg-2\(.*\)\tReplica\tstreaming/\tpg-2\1\tLeader\trunning/' "$STUB/members" ;;
    *) changes "patronictl $*" ;;
  esac
}
redis() {
  local key
  case "$1 ${2:-}" in
    "CONFIG GET") echo "$3"; value "redis.$3" old ;;
    "CONFIG SET") changes "CONFIG SET $3 $4"; echo "$4" >"$STUB/redis.$3"; echo OK ;;
    "CONFIG REWRITE") value rewrite OK ;;
    "SENTINEL CKQUORUM") value quorum "OK 3 usable Sentinels" ;;
    "SENTINEL MASTER") echo name; echo "$3"; for key in "$STUB"/sentinel.*; do echo "${key##*sentinel.}"; cat "$key"; done ;;
    "SENTINEL SET") changes "SENTINEL SET $4 $5"; echo "$5" >"$STUB/sentinel.$4"; echo OK ;;
    "SENTINEL FAILOVER") changes "SENTINEL FAILOVER"; echo slave >"$STUB/role"; echo OK ;;
    "ROLE ") value role master; printf 'host\n6379\nconnected\n1\n' ;;
  esac
}

case $1 in
  ps) echo "id-of-${*: -1}" ;;
  inspect)
    case $3 in
      *Health*) value "health.$4" healthy ;;
      *Config.Image*) echo story/image:tag ;;
      *compose.project.working_dir*) value folder /srv/there ;;
      *compose.project\"*) value project there ;;
      *) value image sha-old ;;
    esac ;;
  image) value image sha-old ;;
  tag) changes "tag $2 $3"; echo "$2" >"$STUB/image" ;;
  kill)
    changes "$*"
    if [ "$3" = USR2 ]; then value next_pid "$$" >>"$STUB/pids"; fi ;;
  rm | stop) changes "$*" ;;
  exec)
    shift
    while true; do case $1 in -i) shift ;; -e | -u) shift 2 ;; *) break ;; esac; done
    shift
    case "$*" in
      "pidof haproxy") tr '\n' ' ' <"$STUB/pids" ;;
      "haproxy -c -f /dev/stdin") cat >"$STUB/checked"; [ ! -e "$STUB/refuse" ] ;;
      "haproxy -c -f "*) [ ! -e "$STUB/refuse" ] ;;
      "sh -c nc "* | "sh -c wget "*) if [ -e "$STUB/mute" ]; then exit 127; fi ;;&
      "sh -c nc "*)
        read -r line
        case $line in
          "show stat") csv ;;
          *) changes "$line"; read -r _ _ what word state <<<"$line"; set_server "$what" "$word" "$state" ;;
        esac ;;
      "sh -c wget "*) csv ;;
      "sh -c "*) [ ! -e "$STUB/refuse" ] ;;
      redis-cli*) shift 3; redis "$@" ;;
      patronictl*) if [ "$2" = -c ]; then shift 3; else shift; fi; patroni "$@" ;;
      *) : ;;
    esac ;;
esac
