"""PostgresConfig: one server's parameters with their origins, and how its data directory begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from hasim.components.postgres.parameters import PARAMETERS, parse
from hasim.errors import Finding, did_you_mean
from hasim.read.pg_hba import HbaRule, replication_rule
from hasim.read.pg_names import KNOWN
from hasim.source import Default, Origin, Span

HBA_ORIGIN = Default("image postgres, docker-entrypoint.sh: host all all all scram-sha-256")

# Rates of this machine's disks and CPU, where no profile states them. Source: measured for the
# simulator, PostgreSQL 15: 54.8 MB of single-row updates, images included, redone in 0.54 s.
REPLAY_BYTES_S = 100e6
REDO_BYTES_S = 100e6

# Bytes a second of a base backup, and what an empty cluster has to copy. Source: assumption; a
# gigabit link; a cluster after initdb takes about 40 MB.
BACKUP_BYTES_S = 110e6
BACKUP_BYTES = 40e6

# Free space for WAL. Source: assumption; no file says it, and a volume has its host's disk.
FREE_DISK_BYTES = 20e9


@dataclass(frozen=True, slots=True)
class Backup:
    """The container's script fills an empty data directory with pg_basebackup.

    slot: -S, made by -C. keeps_going: a failed copy does not end the script (`;`, no `set -e`).
    """

    host: str
    port: int
    user: str
    slot: str = ""
    keeps_going: bool = False
    span: Span | None = None
    creates_slot: bool = False


@dataclass(frozen=True, slots=True)
class PostgresConfig:
    """values: parameter -> text in force. where: parameter -> its origin; absent: the default.

    standby: the directory gets standby.signal. upstream: the instance behind primary_conninfo or
    the backup's host, if the files alone say it. hba: None if a manager sees to it. system: name of
    the set that initdb makes, "" for the instance's own name. slots: made by init scripts.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)
    standby: bool = False
    upstream: tuple[str, int] | None = None
    backup: Backup | None = None
    hba: tuple[HbaRule, ...] | None = None
    data_checksums: bool = False
    data_volume: str = ""
    slots: tuple[str, ...] = ()
    system: str = ""
    first_start_s: float = 0.0
    free_disk_bytes: float = FREE_DISK_BYTES
    replay_bytes_s: float = REPLAY_BYTES_S
    redo_bytes_s: float = REDO_BYTES_S

    def get(self, name: str) -> Any:
        """The value in seconds, bytes, or as it is; what cannot be read counts as the default."""
        row = PARAMETERS[name]
        try:
            return parse(row, self.values.get(name, row.default))
        except ValueError:
            return parse(row, row.default)

    def origin(self, name: str) -> Origin:
        """Where the value comes from."""
        row = PARAMETERS[name]
        return self.where.get(name) or Default(f"PostgreSQL manual {row.section}: {row.default}")

    def refuses(self, user: str) -> Origin | None:
        """The line that turns a replication connection of the user away; None: it may come."""
        if self.hba is None:
            return None
        rule = replication_rule(list(self.hba), user)
        if rule is None:
            spans = [r.span for r in self.hba if r.span is not None]
            return spans[-1] if spans else HBA_ORIGIN
        return (rule.span or HBA_ORIGIN) if rule.method == "reject" else None

    def seconds(self, name: str) -> float:
        """A duration; infinity when it is switched off."""
        return float(self.get(name))


def from_parameters(parameters: Mapping[str, tuple[Any, Origin]], **more: Any) -> PostgresConfig:
    """A configuration out of name -> (value, origin), as a manager such as Patroni states it."""
    values = {name.lower(): _text(value) for name, (value, _) in parameters.items()}
    where = {name.lower(): origin for name, (_, origin) in parameters.items()}
    return PostgresConfig(values, where, **more)


def config_of(config: Any) -> PostgresConfig:
    """The configuration of an instance: ours, a mapping as above, or none at all."""
    if isinstance(config, PostgresConfig):
        return config
    if isinstance(config, Mapping):
        return from_parameters(config)
    return PostgresConfig()


def check_values(config: PostgresConfig) -> list[Finding]:
    """Values that the server would not take: it refuses to start over any of them."""
    found = []
    for name, text in config.values.items():
        origin = config.where.get(name)
        span = origin if isinstance(origin, Span) else None
        row = PARAMETERS.get(name)
        if row is None:
            if name not in KNOWN and "." not in name:
                text = f'unrecognized configuration parameter "{name}"'
                found.append(
                    Finding("warning", "HA190", text, span, did_you_mean(name, sorted(KNOWN)))
                )
            continue
        try:
            parse(row, text)
        except ValueError as error:
            found.append(Finding("warning", "HA190", f"{name}: {error}", span))
    return found


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float) and value == inf:
        return "-1"
    return str(value)
