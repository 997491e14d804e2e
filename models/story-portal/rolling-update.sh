#!/usr/bin/env bash
# Updates the gateways one after the other: drain, replace, wait until HAProxy says UP; on failure
# put the previous image back and stop (RU-1 to RU-4). Docker contexts host-a, host-b, host-c.
set -euo pipefail

BACKEND=l09-api-gateway
BALANCERS="a b"
WAIT_LIMIT_S=60
PAUSE_S=5

haproxy_says() {  # haproxy_says a|b COMMAND
  docker --context "host-$1" exec "haproxy-$1" sh -c "echo '$2' | nc 127.0.0.1 9999"
}

set_state() {  # set_state SERVER STATE, at both load balancers
  for lb in $BALANCERS; do haproxy_says "$lb" "set server $BACKEND/$1 state $2"; done
}

server_field() {  # server_field a|b SERVER COLUMN of `show stat`: 5 sessions, 18 status
  haproxy_says "$1" "show stat" | awk -F, -v b="$BACKEND" -v s="$2" -v c="$3" '$1 == b && $2 == s { print $c }'
}

wait_for() {  # wait_for SERVER COLUMN VALUE, at both load balancers
  local i lb ok
  for ((i = 0; i < WAIT_LIMIT_S; i++)); do
    ok=1
    for lb in $BALANCERS; do [ "$(server_field "$lb" "$1" "$2")" = "$3" ] || ok=0; done
    if [ "$ok" = 1 ]; then return 0; fi
    sleep 1
  done
  return 1
}

update() {  # update HOST NUMBER
  local host=$1 server=l09-$2 name=l09-api-gateway-$2 image previous
  local compose=(docker --context "$host" compose -f "docker-compose.$host.yml")
  echo "updating $name"
  "${compose[@]}" pull "$name"
  image=$(docker --context "$host" inspect -f '{{.Config.Image}}' "$name")
  previous=$(docker --context "$host" inspect -f '{{.Image}}' "$name")

  set_state "$server" drain
  wait_for "$server" 5 0 || echo "$name still has sessions; its grace period ends them"
  # HAProxy still believes in the old container: the new one serves before it gets requests
  if ! { "${compose[@]}" up -d --no-deps --wait --wait-timeout 60 "$name" &&
    set_state "$server" ready &&
    wait_for "$server" 18 UP; }; then
    echo "$name did not come up; rolling back" >&2
    docker --context "$host" tag "$previous" "$image"
    "${compose[@]}" up -d --no-deps --force-recreate --wait --wait-timeout 60 "$name"
    set_state "$server" ready
    exit 1
  fi
}

update host-a 1
sleep "$PAUSE_S"
update host-b 2
sleep "$PAUSE_S"
update host-c 3
echo "all gateways updated"
