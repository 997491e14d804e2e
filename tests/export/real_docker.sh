#!/usr/bin/env bash
# docker for tests whose containers are processes on loopback: $STUB/<container>/ holds its data
# folder (data), the name that it has inside (inside), its environment (env), how it starts (start)
# and its process (pid). The image of a container is called like it.
set -euo pipefail
if [ "$1" = --context ]; then shift 2; fi

enter() {  # enter CONTAINER: its environment
  [ -d "$STUB/$1" ] || { echo "no such container: $1" >&2; exit 1; }
  set -a
  # shellcheck disable=SC1090
  . "$STUB/$1/env"
  set +a
}
alive() { kill -0 "$(cat "$STUB/$1/pid" 2>/dev/null || echo 999999999)" 2>/dev/null; }
launch() {  # launch CONTAINER COMMAND...
  setsid "${@:2}" >"$STUB/$1/log" 2>&1 </dev/null &
  echo $! >"$STUB/$1/pid"
}

case $1 in
  exec)
    shift
    while true; do case $1 in -i) shift ;; -e | -u) shift 2 ;; *) break ;; esac; done
    enter "$1"
    shift
    exec "$@" ;;
  inspect)
    case $3 in
      *Running*) if alive "$4"; then echo true; else echo false; fi ;;
      *) echo "$4" ;;
    esac ;;
  stop)
    [ -d "$STUB/$2" ] || exit 0
    kill -INT "$(cat "$STUB/$2/pid")" 2>/dev/null || true
    for _ in $(seq 100); do alive "$2" || exit 0; sleep 0.1; done
    exit 1 ;;
  start) if [ -d "$STUB/$2" ]; then enter "$2"; launch "$2" bash "$STUB/$2/start"; fi ;;
  run)
    shift
    detached=0 program="" from="" to=""
    while true; do
      case $1 in
        --rm | -i) shift ;;
        -d) detached=1; shift ;;
        --user | --volumes-from) shift 2 ;;
        --entrypoint) program=$2; shift 2 ;;
        -v) from=${2%%:*} to=${2#*:}; to=${to%%:*}; shift 2 ;;
        *) break ;;
      esac
    done
    image=$1
    shift
    enter "$image"
    words=()
    for word in "$@"; do
      if [ "$word" = "$(cat "$STUB/$image/inside")" ]; then word=$(cat "$STUB/$image/data"); fi
      if [ -n "$from" ]; then word=${word//"$to"/"$from"}; fi
      words+=("$word")
    done
    if [ "$detached" = 0 ]; then exec ${program:+"$program"} "${words[@]}"; fi
    mkdir -p "$STUB/temporary"
    : >"$STUB/temporary/env"
    launch temporary "$program" "${words[@]}"
    echo temporary ;;
esac
