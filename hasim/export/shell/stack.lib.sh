# What rolling-update.sh, backup.sh and restore.sh share.

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

on() {  # on HOST DOCKER-ARGUMENTS...: the engine of a host, by the docker context of its name
  if [ "${#HOSTS[@]}" = 1 ] || [ "$1" = "${HASIM_HOST:-}" ]; then docker "${@:2}"; else docker --context "$1" "${@:2}"; fi
}

label() { on "$1" inspect -f "{{index .Config.Labels \"com.docker.compose.$3\"}}" "$(id_of "$1" "$2")"; }

# Another host may hold these files in another folder, under another project's name: its engine knows.
project_of() {  # project_of HOST CONTAINER
  PROJECT=$(label "$1" "$2" project)
  FOLDER=$(label "$1" "$2" project.working_dir)
  if [ -z "$PROJECT" ] || [ -z "$FOLDER" ]; then fail "$2 on $1 was not made by compose"; fi
}

compose_on() {  # compose_on HOST ARGUMENTS...: of the project that project_of found
  local files=(--project-name "$PROJECT" --project-directory "$FOLDER") file
  if [ -e "$TARGET/.env" ]; then files+=(--env-file "$TARGET/.env"); fi
  # shellcheck disable=SC2086
  for file in ${COMPOSE[$1]}; do files+=(-f "$file"); done
  if docker compose version >/dev/null 2>&1; then
    (cd "$TARGET" && on "$1" compose "${files[@]}" "${@:2}")
  elif [ "${#HOSTS[@]}" = 1 ] || [ "$1" = "${HASIM_HOST:-}" ]; then
    (cd "$TARGET" && docker-compose "${files[@]}" "${@:2}")
  else
    (cd "$TARGET" && docker-compose --context "$1" "${files[@]}" "${@:2}")
  fi
}

id_of() {  # id_of HOST CONTAINER: a name, or service:NAME for one whose name compose makes
  if [ "${2#service:}" = "$2" ]; then printf '%s\n' "$2"; return 0; fi
  on "$1" ps -a -q --filter "label=com.docker.compose.service=${2#service:}" | head -n 1
}

# Equality: "unhealthy" contains "healthy". Without a health check: it runs.
healthy() {  # healthy HOST CONTAINER
  local status
  status=$(on "$1" inspect -f '{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}' "$(id_of "$1" "$2")") || return 1
  [ "$status" = healthy ] || [ "$status" = running ]
}

wait_for() {  # wait_for SECONDS COMMAND...
  local i
  for ((i = 0; i <= $1; i++)); do
    if "${@:2}"; then return 0; fi
    sleep 1
  done
  return 1
}

password_from() {  # password_from NAME: $NAME, or what the file $NAME_FILE holds
  local file=$1_FILE
  if [ -n "${!file:-}" ]; then printf '%s' "$(<"${!file}")"; else printf '%s' "${!1:-}"; fi
}
