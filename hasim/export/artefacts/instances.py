"""Settings of one daemon in a folder of its own, where the user's files keep them elsewhere.

PostgreSQL without Patroni: what `ALTER SYSTEM`, flags and scripts put in force, as files. Redis and
Sentinel without a writable folder: a file in one. The compose files do not mount them: that would
be another stack than the one that was simulated. Passwords stay out: a passfile, an include.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hasim.components.postgres.config import PostgresConfig
from hasim.components.redis.config import RedisConfig
from hasim.components.sentinel.config import SentinelConfig
from hasim.export.artefacts.compose import projects
from hasim.export.base import Artefact, Deploy
from hasim.model import Instance
from hasim.read.compose import read_project
from hasim.read.pg_hba import HbaRule
from hasim.source import Span

PASSFILE = "/run/secrets/pgpass"
SECRET_CONF = "/run/secrets/redis.conf"
_SECRET_FLAGS = ("requirepass", "masterauth", "masteruser", "user", "primaryauth")


def make(deploy: Deploy) -> list[Artefact]:
    """hosts/<host>/<instance>/... of every such daemon, in the order of the instances."""
    words = _words(deploy)
    out: list[Artefact] = []
    for one in deploy.stack.instances:
        at = f"hosts/{one.host}/{one.name.partition('@')[0]}"
        if one.kind == "postgres" and not one.inside and isinstance(one.config, PostgresConfig):
            out += _postgres(one, one.config, at)
        elif isinstance(one.config, RedisConfig) and not one.config.file:
            out += _redis(one, words.get((one.host, one.compose_service), ()), at)
        elif isinstance(one.config, SentinelConfig) and one.config.single_file:
            text = deploy.texts.get(one.config.file)
            if text is not None:
                why = f"to mount as {one.name}'s folder, so that it can save its state (RD-2)"
                out.append(Artefact(f"{at}/sentinel.conf", text, why))
    return out


def _words(deploy: Deploy) -> Mapping[tuple[str, str], tuple[str, ...]]:
    """(host, compose service) -> its command, variables left as they are written."""
    out: dict[tuple[str, str], tuple[str, ...]] = {}
    for project in projects(deploy):
        read, _ = read_project(project.files, deploy.texts.__getitem__, {})
        out |= {(project.host, name): s.words for name, s in read.services.items()}
    return out


def _postgres(one: Instance, config: PostgresConfig, at: str) -> Iterator[Artefact]:
    lines = [f"# {one.name}: the settings that the user's files put in force; all else is default."]
    if "listen_addresses" not in config.values:
        lines.append("listen_addresses = '*'  # as the image's own postgresql.conf has it")
    for name, value in config.values.items():
        origin = config.where.get(name)
        place = f"  # {origin.file}:{origin.line}" if isinstance(origin, Span) else ""
        if name != "primary_conninfo":
            lines.append(f"{name} = {_quoted(value)}{place}")
    source = config.backup
    if config.standby and config.upstream:
        host, port = config.upstream
        user = source.user if source else "replicator"
        info = f"host={host} port={port} user={user} application_name={one.name}"
        lines.append(f"primary_conninfo = {_quoted(f'{info} passfile={PASSFILE}')}")
        if source and source.slot and "primary_slot_name" not in config.values:
            lines.append(f"primary_slot_name = {_quoted(source.slot)}")
        example = f"# {PASSFILE}, mode 0600; the password goes to the end of the line\n"
        example += f"{host}:{port}:replication:{user}:\n"
        yield Artefact(f"{at}/standby.signal", "", f"makes {one.name} a standby at its start")
        yield Artefact(f"{at}/pgpass.example", example, "where the standby's password goes")
    yield Artefact(f"{at}/postgresql.conf", "\n".join(lines) + "\n", f"settings of {one.name}")
    if config.hba is not None:
        rules = [f"# {one.name}: who may connect, asked from the top.", *_hba(config.hba)]
        text = "\n".join(rules) + "\n"
        yield Artefact(f"{at}/pg_hba.conf", text, f"who may connect to {one.name}")


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _hba(rules: tuple[HbaRule, ...]) -> Iterator[str]:
    for rule in rules:
        where = f"  # {rule.span.file}:{rule.span.line}" if rule.span else ""
        address = f" {rule.address}" if rule.address else ""
        who = f"{','.join(rule.databases)} {','.join(rule.users)}"
        yield f"{rule.kind} {who}{address} {rule.method}{where}"


def _redis(one: Instance, words: tuple[str, ...], at: str) -> Iterator[Artefact]:
    """The flags of the command as a redis.conf that Redis itself can rewrite."""
    lines: list[str] = []
    secret: list[str] = []
    for flag, values in _flags(words):
        if flag in _SECRET_FLAGS:
            secret.append(flag)
        else:
            lines.append(" ".join([flag, *values]))
    head = [
        f"# {one.name}: the flags of its command as a file, to mount as a folder of its own:",
        "# CONFIG REWRITE, by which Sentinel's orders outlive a restart, needs one.",
    ]
    if secret:
        lines.append(f"include {SECRET_CONF}")
        example = f"# {SECRET_CONF}: one line each, with the password behind it\n"
        example += "".join(f"# {name}\n" for name in secret)
        yield Artefact(f"{at}/secret.conf.example", example, f"secrets that {one.name} includes")
    yield Artefact(f"{at}/redis.conf", "\n".join([*head, *lines]) + "\n", f"flags of {one.name}")


def _flags(words: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    flag: str = ""
    values: list[str] = []
    for word in (*words, "--"):
        if word.startswith("--"):
            if flag:
                yield flag, values
            flag, values = word[2:].lower(), []
        elif flag:
            values.append(word if word and " " not in word else f'"{word}"')
