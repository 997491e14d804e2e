"""PostgresConfig: one server's parameters with their origins, and how its data directory begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from hasim.components.postgres.parameters import PARAMETERS, parse
from hasim.errors import Finding, did_you_mean
from hasim.source import Default, Origin, Span

_KB, _GB = 1024, 1024**3  # source: definition

# Rates of this machine's disks and CPU, where no profile states them. Source: measured for the
# simulator, PostgreSQL 15, see tests/measured/README.md; single-row updates from shared buffers.
REPLAY_BYTES_S = 60.0 * 1024 * _KB
REDO_BYTES_S = 60.0 * 1024 * _KB

# Bytes a second of a base backup, and what an empty cluster has to copy. Source: assumption; a
# gigabit link; a cluster after initdb takes about 40 MB.
BACKUP_BYTES_S = 110.0 * 1024 * _KB
BACKUP_BYTES = 40.0 * 1024 * _KB

# Free space for WAL. Source: assumption; no file says it, and a volume has its host's disk.
FREE_DISK_BYTES = 20.0 * _GB


@dataclass(frozen=True, slots=True)
class Backup:
    """The container's script fills an empty data directory with pg_basebackup.

    slot: -S. keeps_going: a failed copy does not end the script (`;` without `set -e`).
    """

    host: str
    port: int
    user: str
    slot: str = ""
    keeps_going: bool = False
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class PostgresConfig:
    """values: parameter -> text in force. where: parameter -> its origin; absent: the default.

    standby: the directory gets standby.signal. upstream: the instance behind primary_conninfo or
    the backup's host, if the files alone say it. hba: "open" | "none" | "rules" for replication.
    system: name of the replicated set that initdb makes, "" for the instance's own name.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)
    standby: bool = False
    upstream: tuple[str, int] | None = None
    backup: Backup | None = None
    refuses_replication: Span | Default | None = None
    data_checksums: bool = False
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
            continue
        try:
            parse(row, text)
        except ValueError as error:
            found.append(Finding("error", "HA190", f"{name}: {error}", span))
    return found


def unknown(name: str) -> str:
    """The hint for a parameter that is close to one that we know."""
    return did_you_mean(name, PARAMETERS)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float) and value == inf:
        return "-1"
    return str(value)
