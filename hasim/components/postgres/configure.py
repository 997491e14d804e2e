"""What a container's files say about the server in it, and what the server refuses at start.

Source: docker-library/postgres docker-entrypoint.sh (16), pg_basebackup manual,
reference/guide-audit.md PG-3 to PG-7.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hasim.components.base import Configured, Folder, Placed
from hasim.components.postgres.config import Backup, PostgresConfig, check_values
from hasim.components.postgres.knobs import knobs_of
from hasim.components.postgres.reading import Reading, environment_of
from hasim.components.postgres.script import Statement
from hasim.components.postgres.sync import parse_rule
from hasim.model import BootFailure, image_name
from hasim.read.pg_conf import conninfo
from hasim.read.pg_hba import HbaRule
from hasim.source import Origin, Span

if TYPE_CHECKING:
    from hasim.read.compose_types import ComposeService

# Images that run one PostgreSQL server by the entrypoint of the official one.
IMAGES = ("postgres", "postgresql", "pgvector", "postgis", "timescaledb", "pgvecto-rs")
_NOT = re.compile(r"patroni|spilo|exporter|pgbouncer|pgadmin|pgpool|backup|stolon|barman")

# The entrypoint's initdb, its temporary server with the init scripts, and the real start. Source:
# measured for the simulator: initdb of PostgreSQL 15 takes 0.6 to 2 s, two starts 0.1 s each.
FIRST_START_S = 2.0

# What initdb and the entrypoint write. Source: pg_hba.conf.sample; docker-entrypoint.sh
# (pg_setup_hba_conf): replication only over loopback, `host all all all` for the rest.
IMAGE_HBA = (
    HbaRule("local", ("all",), ("all",), "", "trust"),
    HbaRule("host", ("replication",), ("all",), "127.0.0.1/32", "trust"),
    HbaRule("host", ("all",), ("all",), "all", "scram-sha-256"),
)


def recognises(service: ComposeService) -> bool:
    """An image of PostgreSQL whose command does not start something else around it."""
    words = " ".join(service.words)
    if _NOT.search(service.image) or re.search(r"\bpatroni\b", words):
        return False
    return image_name(service.image) in IMAGES


def configure(one: Placed, folder: Folder) -> Configured:
    """Parameters, origins, what the daemon refuses, and how its directory begins."""
    reading = Reading(one, folder)
    reading.read()
    values = {s.name: s.value for s in reading.settings.values()}
    where: dict[str, Origin] = {s.name: s.span for s in reading.settings.values()}
    backup = _backup(reading)
    standby = _standby(reading, backup)
    upstream = _upstream(reading, backup, values)
    config = PostgresConfig(
        values,
        where,
        standby=standby,
        upstream=upstream,
        backup=backup,
        hba=(*(reading.hba or ()), *(() if _replaced(reading) else IMAGE_HBA)),
        data_checksums=_checksums(one),
        first_start_s=FIRST_START_S,
        data_volume=_volume(reading),
        slots=tuple(reading.slots),
    )
    _refusals(reading, config)
    port = int(config.get("port"))
    dials = (upstream,) if upstream is not None else ()
    return Configured(
        config, tuple(reading.findings), knobs_of(one.name, reading), tuple(reading.failures),
        ports=(port,), dials=dials,
    )  # fmt: skip


def _replaced(reading: Reading) -> bool:
    """Is pg_hba.conf mounted, so that the image's own lines are not in force?"""
    path = reading.settings.get("hba_file")
    inner = path.value if path is not None else f"{reading.data}/pg_hba.conf"
    found = reading.folder.mounted(reading.one, inner)
    return found is not None and (found[1] or path is not None)


def _backup(reading: Reading) -> Backup | None:
    found = reading.script.first("pg_basebackup") if reading.script else None
    if reading.script is None or found is None:
        return None
    number, one = found
    words, _ = conninfo(one.option("-d", "--dbname") or "")
    host = one.option("-h", "--host") or words.get("host", "")
    port = one.option("-p", "--port") or words.get("port", "5432")
    user = one.option("-U", "--username") or words.get("user", "postgres")
    slot = one.option("-S", "--slot") or ""
    keeps = not reading.script.strict and number + 1 not in reading.script.joined
    if keeps:
        text = "the start script goes on after a failed pg_basebackup (PG-7)"
        reading.warn("HA247", text, one.span, "set -euo pipefail, or join the steps with &&")
    _prompt(reading, one, words)
    number_ = int(port) if port.isdigit() else 5432
    create = one.flag("C", "--create-slot")
    return Backup(host, number_, user, slot, keeps, one.span, create)


def _prompt(reading: Reading, one: Statement, words: dict[str, str]) -> None:
    """-W asks for a password on a terminal that is not there; PGPASSWORD answers it."""
    env = {**environment_of(reading.one), **one.env}
    if "PGPASSWORD" in env or "PGPASSFILE" in env or "password" in words:
        return
    if one.flag("W", "--password"):
        text = "pg_basebackup -W asks for a password without a terminal, again and again"
        hint = "drop -W; set PGPASSWORD or a .pgpass file and use -w"
        reading.refuse(text, one.span, "PG-5", hint)


def _standby(reading: Reading, backup: Backup | None) -> bool:
    """standby.signal: from pg_basebackup -R, from the script, or a bitnami replica."""
    if reading.one.environment.get("POSTGRESQL_REPLICATION_MODE") in ("slave", "replica"):
        return True
    if reading.script is None:
        return reading.file(f"{reading.data}/standby.signal") is not None
    copy = reading.script.first("pg_basebackup")
    if copy is not None and copy[1].flag("R", "--write-recovery-conf"):
        return True
    signal = any("standby.signal" in w for s in reading.script.statements for w in
                 (*s.words, s.writes))  # fmt: skip
    if backup is not None and not signal:
        text = "the copy gets no standby.signal: it starts as a second primary"
        reading.warn("HA193", text, backup.span, "pg_basebackup -R")
    return signal


def _upstream(
    reading: Reading, backup: Backup | None, values: dict[str, str]
) -> tuple[str, int] | None:
    words, wrong = conninfo(values.get("primary_conninfo", ""))
    setting = reading.settings.get("primary_conninfo")
    if wrong and setting is not None:
        reading.warn("HA190", f"primary_conninfo: {wrong}", setting.span)
    host, port = words.get("host", ""), words.get("port", "")
    env = reading.one.environment
    if not host and backup is not None:
        host, port = backup.host, str(backup.port)
    if not host:
        host = env.get("POSTGRESQL_MASTER_HOST") or ""
        port = env.get("POSTGRESQL_MASTER_PORT_NUMBER") or ""
    first = port.split(",")[0]
    return (host.split(",")[0], int(first) if first.isdigit() else 5432) if host else None


def _checksums(one: Placed) -> bool:
    words = (one.environment.get("POSTGRES_INITDB_ARGS") or "").split()
    return "--data-checksums" in words or "-k" in words


def _volume(reading: Reading) -> str:
    """The named volume that holds the data directory, with the folder inside of it."""
    service = reading.one.service
    best, longest = "", -1
    for mount in service.volumes if service else ():
        inner = mount.target.rstrip("/")
        if (reading.data + "/").startswith(inner + "/") and len(inner) > longest:
            best, longest = (
                mount.source and f"{reading.one.instance.host}:{mount.source}",
                len(inner),
            )
    return best


# ---- what the daemon refuses -----------------------------------------------------------------
def _refusals(reading: Reading, config: PostgresConfig) -> None:
    name = reading.one.name
    for finding in check_values(config):
        reading.findings.append(finding)
        reading.failures.append(BootFailure(name, finding.message, finding.span))
    _root(reading)
    _no_password(reading)
    if config.get("wal_level") == "minimal" and config.get("max_wal_senders") > 0:
        text = "WAL streaming (max_wal_senders > 0) requires wal_level replica or logical"
        reading.refuse(text, _span(config.origin("wal_level")))
    if config.get("superuser_reserved_connections") >= config.get("max_connections"):
        text = "superuser_reserved_connections must be less than max_connections"
        reading.refuse(text, _span(config.origin("max_connections")))
    try:
        parse_rule(str(config.get("synchronous_standby_names")))
    except ValueError as error:
        text = f"synchronous_standby_names: {error}"
        reading.refuse(text, _span(config.origin("synchronous_standby_names")))


def _span(origin: Origin) -> Span | None:
    return origin if isinstance(origin, Span) else None


def _root(reading: Reading) -> None:
    """The image's entrypoint drops root only when the command itself begins with postgres."""
    service = reading.one.service
    if reading.script is None or service is None or "bitnami" in service.image:
        return
    user = service.user.partition(":")[0]
    server = reading.script.first("postgres", "pg_ctl", "initdb")
    if user not in ("", "root", "0") or server is None or server[1].dropped:
        return
    text = '"root" execution of the PostgreSQL server is not permitted'
    hint = (
        "user: postgres, or gosu postgres postgres: the entrypoint drops root for `postgres` only"
    )
    reading.refuse(text, server[1].span or reading.place(), "PG-3", hint)


def _no_password(reading: Reading) -> None:
    """The entrypoint refuses to initialise a directory without a superuser password."""
    env = reading.one.environment
    if reading.script is not None or "bitnami" in reading.one.instance.image:
        return
    words = reading.words
    if words and words[0] not in ("postgres", "docker-entrypoint.sh") and words[0][:1] != "-":
        return
    given = env.get("POSTGRES_PASSWORD") or env.get("POSTGRES_PASSWORD_FILE")
    if reading.one.service is None or given or env.get("POSTGRES_HOST_AUTH_METHOD") == "trust":
        return
    if reading.one.service.env_file:
        return
    text = "Database is uninitialized and superuser password is not specified"
    reading.refuse(text, reading.place("environment"), "", "set POSTGRES_PASSWORD")
