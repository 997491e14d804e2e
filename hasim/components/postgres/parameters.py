"""The server parameters that matter here: default, unit, and how a change takes effect.

Source for every default and unit: PostgreSQL 16 manual, chapter 20 "Server Configuration", and
`pg_settings` of 15.x (the same values); the section is named with each.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from hasim.units import parse_duration_s, parse_size_bytes

RELOAD, RESTART, LIVE = "reload", "restart", "live"


@dataclass(frozen=True, slots=True)
class Parameter:
    """kind: duration | size | int | bool | enum | text. unit: what a bare number means; size units
    in bytes. minus: a value of -1 (or 0 for `zero`) means "no limit" and reads as infinity.
    """

    name: str
    kind: str
    default: str
    section: str
    effect: str = RELOAD
    unit: str = ""
    unit_bytes: int = 1
    words: tuple[str, ...] = ()
    minus: bool = False
    zero: bool = False


_MB = 1024 * 1024  # source: definition

_LEVELS = ("off", "local", "remote_write", "on", "remote_apply")
_ROWS = (
    Parameter("max_connections", "int", "100", "20.3.1", RESTART),
    Parameter("superuser_reserved_connections", "int", "3", "20.3.1", RESTART),
    Parameter("reserved_connections", "int", "0", "20.3.1", RESTART),
    Parameter("port", "int", "5432", "20.3.1", RESTART),
    Parameter("listen_addresses", "text", "localhost", "20.3.1", RESTART),
    Parameter("wal_level", "enum", "replica", "20.5.1", RESTART,
              words=("minimal", "replica", "logical")),
    Parameter("fsync", "bool", "on", "20.5.1"),
    Parameter("synchronous_commit", "enum", "on", "20.5.1", LIVE, words=_LEVELS),
    Parameter("full_page_writes", "bool", "on", "20.5.1"),
    Parameter("wal_log_hints", "bool", "off", "20.5.1", RESTART),
    Parameter("wal_writer_delay", "duration", "200ms", "20.5.1", unit="ms"),
    Parameter("checkpoint_timeout", "duration", "5min", "20.5.2", unit="s"),
    Parameter("checkpoint_completion_target", "real", "0.9", "20.5.2"),
    Parameter("max_wal_size", "size", "1GB", "20.5.2", unit_bytes=_MB),
    Parameter("min_wal_size", "size", "80MB", "20.5.2", unit_bytes=_MB),
    Parameter("max_wal_senders", "int", "10", "20.6.1", RESTART),
    Parameter("max_replication_slots", "int", "10", "20.6.1", RESTART),
    Parameter("wal_keep_size", "size", "0", "20.6.1", unit_bytes=_MB),
    Parameter("max_slot_wal_keep_size", "size", "-1", "20.6.1", unit_bytes=_MB, minus=True),
    Parameter("wal_sender_timeout", "duration", "60s", "20.6.1", unit="ms", zero=True),
    Parameter("synchronous_standby_names", "text", "", "20.6.2"),
    Parameter("primary_conninfo", "text", "", "20.6.3"),
    Parameter("primary_slot_name", "text", "", "20.6.3"),
    Parameter("hot_standby", "bool", "on", "20.6.3", RESTART),
    Parameter("max_standby_streaming_delay", "duration", "30s", "20.6.3", unit="ms", minus=True),
    Parameter("wal_receiver_status_interval", "duration", "10s", "20.6.3", unit="s", zero=True),
    Parameter("hot_standby_feedback", "bool", "off", "20.6.3"),
    Parameter("wal_receiver_timeout", "duration", "60s", "20.6.3", unit="ms", zero=True),
    Parameter("wal_retrieve_retry_interval", "duration", "5s", "20.6.3", unit="ms"),
    Parameter("recovery_min_apply_delay", "duration", "0", "20.6.3", unit="ms"),
    Parameter("cluster_name", "text", "", "20.7.2", RESTART),
    Parameter("hba_file", "text", "", "20.2", RESTART),
    Parameter("data_directory", "text", "", "20.2", RESTART),
)  # fmt: skip
PARAMETERS = {row.name: row for row in _ROWS}
_ON = ("on", "true", "yes", "1", "tru", "tr", "t", "ye", "y")
_OFF = ("off", "false", "no", "0", "fals", "fal", "fa", "f", "n", "of")


def parse(row: Parameter, text: str) -> float | int | bool | str:
    """The value in seconds, bytes, or as it is; ValueError says what the server would not take."""
    text = text.strip()
    if row.kind == "bool":
        return _bool(text)
    if row.kind == "enum":
        return _enum(row, text)
    if row.kind == "text":
        return text
    if row.minus and text in ("-1", "-1ms", "-1s"):
        return inf
    if row.kind == "duration":
        value = parse_duration_s(text, "pg", zero=True, unit=row.unit)
        return inf if row.zero and value == 0 else value
    if row.kind == "size":
        return parse_size_bytes(text, "pg", zero=True, unit_bytes=row.unit_bytes)
    try:
        return float(text) if row.kind == "real" else int(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a number") from None


def _bool(text: str) -> bool:
    if text.lower() in _ON:
        return True
    if text.lower() in _OFF:
        return False
    raise ValueError(f"'{text}' is not a Boolean value (on or off)")


def _enum(row: Parameter, text: str) -> str:
    value = text.lower()
    if row.name == "synchronous_commit":  # it takes Booleans too
        value = {"true": "on", "yes": "on", "1": "on"}.get(value, value)
        value = {"false": "off", "no": "off", "0": "off"}.get(value, value)
    if value not in row.words:
        raise ValueError(f"'{text}' is none of {', '.join(row.words)}")
    return value
