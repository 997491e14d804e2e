"""extra/rolling-update.sh, backup.sh and restore.sh: written for the containers of one stack.

Each is a head with the names of this stack and a body from hasim/export/shell. Passwords come from
the environment or from files when a script runs.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hasim.export.apply_shell import haproxies, library
from hasim.export.apply_stack import Behind, HostView, Unit, behind, views
from hasim.export.base import Artefact, Deploy

_HEAD = """\
#!/usr/bin/env bash
# Made by hasim for the stack {name}. {what}
set -euo pipefail

"""
PGDATA = "/var/lib/postgresql/data"  # of the official image and those made from it


@dataclass(frozen=True, slots=True)
class Member:
    """One instance behind HAProxy."""

    host: str
    service: str
    container: str
    lines: Behind


def make(deploy: Deploy) -> list[Artefact]:
    """The scripts that the stack has use for, in path order."""
    found = views(deploy)
    made = []
    if stores := _stores(found):
        made.append(_script(deploy, found, "backup", stores, "Copies what it stores, and checks."))
        what = "Puts a backup back, with the old data kept beside."
        made.append(_script(deploy, found, "restore", stores, what))
    services = balanced(deploy)
    if services:
        what = "Updates the services behind HAProxy, one instance after the other."
        same = replace(deploy, before=deploy.texts, old=deploy.stack)
        calls = [haproxies(same, found), *_updates(services)]
        head = f"SERVICES={shlex.quote(' '.join(services))}\n"
        one = _script(deploy, found, "rolling-update", head, what, calls)
        made.append(one)
    return made


def balanced(deploy: Deploy) -> dict[str, tuple[Member, ...]]:
    """{service of the profile: its instances behind HAProxy, in the order of the hosts}.

    Only services all of whose server lines can be drained: without that, users meet the container
    that goes away, and HAProxy goes on believing in it while the next one is replaced (RU-3, RU-4).
    """
    out = _members(deploy)
    return {name: ms for name, ms in out.items() if all(m.lines.drains for m in ms)}


def undrained(deploy: Deploy) -> list[str]:
    """Services behind HAProxy that rolling-update.sh leaves out."""
    drained = balanced(deploy)
    at = {s.instance for b in deploy.stack.balancers for e in b.backends for s in e.servers}
    names = {i.service for i in deploy.stack.instances if i.name in at and i.kind == "service"}
    return [name for name in _members(deploy) if name in names and name not in drained]


def _members(deploy: Deploy) -> dict[str, tuple[Member, ...]]:
    deploy = replace(deploy, before=deploy.texts, old=deploy.stack)
    found = views(deploy)
    out: dict[str, list[Member]] = {}
    for view in found:
        for unit in view.of_kind("service"):
            assert unit.instance is not None
            lines = behind(deploy, found, unit.instance.name)
            one = Member(view.name, unit.service.name, unit.container, lines)
            out.setdefault(unit.instance.service, []).append(one)
    return {name: tuple(members) for name, members in out.items()}


def _updates(services: Mapping[str, Sequence[Member]]) -> list[str]:
    lines = []
    for name, members in services.items():
        lines.append(f"if wanted {shlex.quote(name)}; then")
        for number, one in enumerate(members):
            words = [one.host, one.service, one.container]
            words += [str(one.lines.settle_s), *one.lines.servers]
            lines += ["  pause"] * bool(number) + [f"  update {shlex.join(words)}"]
        lines.append("fi")
    lines.append('if [ "$DRY" = 0 ]; then say "done: $UPDATED updated"; fi')
    return lines


def _script(
    deploy: Deploy,
    found: Sequence[HostView],
    name: str,
    facts: str,
    what: str,
    calls: Sequence[str] = (),
) -> Artefact:
    hosts = [v for v in found if v.files]
    text = _HEAD.format(name=deploy.stack.name, what=what)
    if name != "rolling-update":
        text = text.replace(
            "set -euo", "# shellcheck disable=SC2016  # shells inside of containers\nset -euo"
        )
    text += f"HOSTS=({shlex.join(v.name for v in hosts)})\n"
    if name == "rolling-update":
        rows = " ".join(f"[{v.name}]={shlex.quote(' '.join(v.files))}" for v in hosts)
        text += f"declare -A COMPOSE=({rows})\n"
    text += facts + "\n" + _part(name) + library(f"{name}.body.sh")
    text += "".join(f"{line}\n" for line in calls)
    return Artefact(f"extra/{name}.sh", text, what.rstrip("."), executable=True)


def _part(name: str) -> str:
    """The shared functions; compose is asked by rolling-update.sh only."""
    text = library("stack.lib.sh")
    if name == "rolling-update":
        return text[: text.index("password_from()")].rstrip() + "\n"
    start, end = text.index("label()"), text.index("id_of()")
    text = text[:start] + text[end:]
    if name == "restore":
        return text[: text.index("# Equality")] + text[text.index("wait_for()") :]
    start, end = text.index("# Equality"), text.index("password_from()")
    return text[:start] + text[end:]


def _stores(found: Sequence[HostView]) -> str:
    """Arrays of HOST/CONTAINER/... rows; "" if the stack stores nothing."""
    rows: dict[str, list[str]] = {"POSTGRES": [], "REDIS": [], "SENTINELS": [], "ETCD": []}
    for view in found:
        for unit in view.units:
            at = f"{view.name}/{unit.container}"
            config = unit.instance.config if unit.instance else None
            if unit.kind == "patroni":
                rows["POSTGRES"].append(f"{at}/{_patroni(unit)}")
            elif unit.kind == "postgres":
                data = unit.service.environment.get("PGDATA") or PGDATA
                rows["POSTGRES"].append(f"{at}/postgres///{_slashes(data)}//")
            elif unit.kind == "redis" and config is not None:
                aof = "aof" if config.appendonly else "rdb"
                rows["REDIS"].append(f"{at}/{config.port}/data/{aof}")
            elif unit.kind == "sentinel":
                rows["SENTINELS"].append(at)
            elif unit.kind == "etcd" and config is not None:
                rows["ETCD"].append(f"{at}/{config.client_port}")
    if not any(rows.values()):
        return ""
    lines = [f"{name}=({shlex.join(found)})" for name, found in rows.items()]
    return "\n".join(lines) + '\n: "${#SENTINELS[@]}" "${#ETCD[@]}"\n'


def _patroni(unit: Unit) -> str:
    """USER/ADDRESS/PORT/DATA/SCOPE/CONFIG; slashes of paths as %."""
    assert unit.instance is not None
    config = unit.instance.config
    words = [w for w in unit.service.words if w.endswith((".yml", ".yaml"))]
    path = words[-1] if words else ""
    data = unit.service.environment.get("PATRONI_POSTGRESQL_DATA_DIR") or f"{PGDATA}/pgdata"
    user = unit.service.environment.get("PATRONI_REPLICATION_USERNAME") or "replicator"
    address, port = config.postgres
    return f"{user}/{address}/{port}/{_slashes(data)}/{config.scope}/{path.replace('/', '%')}"


def _slashes(path: str) -> str:
    """A path as one field of a row: /var/lib is var%lib."""
    return path.lstrip("/").replace("/", "%")
