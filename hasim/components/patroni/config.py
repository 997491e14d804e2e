"""What patroni.yml and PATRONI_* mean: the member, its DCS, the cluster's dynamic settings.

Source of names and defaults: Patroni 4.1 documentation, "YAML configuration settings" and
"Dynamic configuration settings"; patroni/config.py and patroni/global_config.py, 4.1.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hasim.errors import Finding, did_you_mean
from hasim.read.patroni_conf import PatroniConf, Value
from hasim.read.pg_names import KNOWN
from hasim.source import Default, Origin, Span
from hasim.units import parse_size_bytes

# name -> (default, least value). Source: Patroni, Dynamic configuration settings;
# patroni/config.py (_validate_and_adjust_timeouts) for the least values.
NUMBERS: dict[str, tuple[int, int]] = {
    "ttl": (30, 20),
    "loop_wait": (10, 1),
    "retry_timeout": (10, 3),
    "maximum_lag_on_failover": (1048576, 0),
    "primary_start_timeout": (300, 0),
    "primary_stop_timeout": (0, 0),
    "synchronous_node_count": (1, 1),
}
SWITCHES = ("synchronous_mode", "synchronous_mode_strict", "failsafe_mode", "check_timeline")
_OLD_NAMES = {"primary_start_timeout": "master_start_timeout",
              "primary_stop_timeout": "master_stop_timeout"}  # fmt: skip
_DYNAMIC = "Patroni, Dynamic configuration settings"
# Keys of the file and of its bootstrap.dcs; Patroni passes over others without a word. Source:
# Patroni, YAML configuration settings and Dynamic configuration settings.
_FILE = """name namespace scope log bootstrap citus consul etcd etcd3 exhibitor zookeeper kubernetes
    raft postgresql restapi ctl watchdog tags"""
_DCS = """maximum_lag_on_syncnode max_timelines_history master_start_timeout master_stop_timeout
    postgresql standby_cluster slots ignore_slots pause member_slots_ttl"""
KEYS: dict[tuple[str, ...], tuple[str, ...]] = {
    (): tuple(_FILE.split()),
    ("bootstrap", "dcs"): (*NUMBERS, *SWITCHES, *_DCS.split()),
}
# Parameters that Patroni passes on the command line; the local file cannot set them. Source:
# Patroni, "Important rules" of dynamic settings; patroni/postgresql/config.py CMDLINE_OPTIONS.
CMDLINE: dict[str, str] = {
    "max_connections": "100", "max_wal_senders": "10", "max_prepared_transactions": "0",
    "max_locks_per_transaction": "64", "track_commit_timestamp": "off",
    "max_replication_slots": "10", "max_worker_processes": "8", "wal_log_hints": "on",
    "wal_level": "replica", "hot_standby": "on", "wal_keep_size": "128MB",
}  # fmt: skip
REST_PORT, PG_PORT, ETCD_PORT = 8008, 5432, 2379  # source: Patroni, YAML configuration settings
SAFETY_MARGIN_S = 5  # source: Patroni, watchdog documentation


@dataclass(frozen=True, slots=True)
class Dynamic:
    """The settings that live in the DCS (key /config); times in seconds."""

    ttl: int = 30
    loop_wait: int = 10
    retry_timeout: int = 10
    maximum_lag_on_failover: int = 1048576
    primary_start_timeout: int = 300
    primary_stop_timeout: int = 0
    synchronous_node_count: int = 1
    synchronous_mode: str = "off"  # | on | quorum
    synchronous_mode_strict: bool = False
    failsafe_mode: bool = False
    check_timeline: bool = False
    use_pg_rewind: bool = False
    use_slots: bool = True

    @property
    def synchronous(self) -> bool:
        """Is synchronous_mode on, in whatever form?"""
        return self.synchronous_mode != "off"


@dataclass(frozen=True, slots=True)
class PatroniConfig:
    """One member as its own file says. hosts: (address, port) of etcd's members."""

    name: str = ""
    scope: str = ""
    namespace: str = "service"
    hosts: tuple[tuple[str, int], ...] = ()
    dynamic: Dynamic = Dynamic()
    nofailover: bool = False
    failover_priority: int = 1
    nosync: bool = False
    noloadbalance: bool = False
    watchdog: str = "automatic"  # off | automatic | required
    watchdog_device: bool = False
    safety_margin: int = SAFETY_MARGIN_S
    rest: tuple[str, int] = ("", REST_PORT)
    rest_listen: int = REST_PORT
    postgres: tuple[str, int] = ("", PG_PORT)
    postgres_listen: int = PG_PORT
    remove_diverged: bool = False
    parameters: Mapping[str, tuple[str, Origin]] = field(default_factory=dict)
    where: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)

    @property
    def prefix(self) -> str:
        """Where in the DCS the cluster lives."""
        return f"/{self.namespace.strip('/')}/{self.scope}/"


def meaning(conf: PatroniConf, instance: str) -> tuple[PatroniConfig, list[Finding]]:
    """The configuration and everything that is odd about it."""
    found: list[Finding] = []
    where: dict[str, Origin] = {}
    dynamic = _dynamic(conf, where, found)
    config = PatroniConfig(
        name=_text(conf, "name") or instance,
        scope=_text(conf, "scope"),
        namespace=_text(conf, "namespace") or "service",
        hosts=_hosts(conf),
        dynamic=dynamic,
        nofailover=_switch(conf.get("tags", "nofailover")),
        failover_priority=_integer(conf.get("tags", "failover_priority"), 1),
        nosync=_switch(conf.get("tags", "nosync")),
        noloadbalance=_switch(conf.get("tags", "noloadbalance")),
        watchdog=_text(conf, "watchdog", "mode").lower() or "automatic",
        safety_margin=_integer(conf.get("watchdog", "safety_margin"), SAFETY_MARGIN_S),
        rest=_address(conf, REST_PORT, "restapi", "connect_address"),
        rest_listen=_address(conf, REST_PORT, "restapi", "listen")[1],
        postgres=_address(conf, PG_PORT, "postgresql", "connect_address"),
        postgres_listen=_address(conf, PG_PORT, "postgresql", "listen")[1],
        remove_diverged=_switch(
            conf.get("postgresql", "remove_data_directory_on_diverged_timelines")
        ),
        parameters=_parameters(conf),
        where=where,
    )
    found += _findings(conf, config)
    return config, found


def _dynamic(conf: PatroniConf, where: dict[str, Origin], found: list[Finding]) -> Dynamic:
    numbers: dict[str, Any] = {}
    for name, (default, least) in NUMBERS.items():
        value = conf.get("bootstrap", "dcs", name)
        value = value or conf.get("bootstrap", "dcs", _OLD_NAMES.get(name, name))
        where[name] = value.span if value else Default(f"{_DYNAMIC}: {name} {default}")
        numbers[name] = _integer(value, default)
        if value is not None and not _is_number(value.value):
            message = f"{name} must be a whole number"
            found.append(Finding("error", "HA195", message, value.span))
        elif numbers[name] < least:
            message = f"{name}={numbers[name]} can't be smaller than {least}, adjusting..."
            found.append(Finding("warning", "HA196", message, value.span if value else None))
            numbers[name] = least
    switches: dict[str, Any] = {}
    for name in SWITCHES:
        value = conf.get("bootstrap", "dcs", name)
        where[name] = value.span if value else Default(f"{_DYNAMIC}: {name} off")
        switches[name] = _switch(value)
    mode = conf.get("bootstrap", "dcs", "synchronous_mode")
    quorum = mode is not None and str(mode.value).lower() == "quorum"
    switches["synchronous_mode"] = "quorum" if quorum else ("off", "on")[_switch(mode)]
    for name, default in (("use_pg_rewind", False), ("use_slots", True)):
        value = conf.get("bootstrap", "dcs", "postgresql", name)
        value = value or conf.get("postgresql", name)
        text = f"{_DYNAMIC}: {name} {str(default).lower()}"
        where[name] = value.span if value else Default(text)
        switches[name] = _switch(value) if value else default
    return adjusted(Dynamic(**numbers, **switches), found, where)


def adjusted(
    dynamic: Dynamic, found: list[Finding] | None = None, where: Mapping[str, Origin] | None = None
) -> Dynamic:
    """The rule loop_wait + 2 * retry_timeout <= ttl, kept by taking loop_wait down, then both.

    Source: patroni/config.py (_validate_and_adjust_timeouts).
    """
    ttl, loop, retry = dynamic.ttl, dynamic.loop_wait, dynamic.retry_timeout
    least = NUMBERS["loop_wait"][1]
    if least + 2 * retry > ttl:
        made = replace(dynamic, loop_wait=least, retry_timeout=(ttl - least) // 2)
    elif loop + 2 * retry > ttl:
        made = replace(dynamic, loop_wait=ttl - 2 * retry)
    else:
        return dynamic
    if found is not None:
        text = f"loop_wait + 2 * retry_timeout <= ttl does not hold: {loop} + 2 * {retry} > {ttl}"
        text += f"; loop_wait becomes {made.loop_wait}, retry_timeout {made.retry_timeout}"
        origin = (where or {}).get("ttl")
        span = origin if isinstance(origin, Span) else None
        found.append(Finding("warning", "HA196", text, span, "raise ttl or lower retry_timeout"))
    return made


def _parameters(conf: PatroniConf) -> dict[str, tuple[str, Origin]]:
    """postgresql.parameters in force: Patroni's own, the DCS's, then the local file's."""
    source = Default("Patroni, parameters controlled by Patroni")
    made: dict[str, tuple[str, Origin]] = {k: (v, source) for k, v in CMDLINE.items()}
    for name, value in conf.below("bootstrap", "dcs", "postgresql", "parameters"):
        made[name] = (_word(value), value.span)
    for name, value in conf.below("postgresql", "parameters"):
        if name not in CMDLINE:
            made[name] = (_word(value), value.span)
    return made


def _unknown(conf: PatroniConf) -> list[Finding]:
    """Keys that Patroni does not read: most are slips of the pen."""
    places = dict(conf.maps)
    places |= {path: value.key or value.span for path, value in conf.values.items()}
    found = []
    for section, known in KEYS.items():
        n = len(section)
        for path, span in places.items():
            if len(path) == n + 1 and path[:n] == section and path[n] not in known:
                elsewhere = section == () and path[n] in (*NUMBERS, *SWITCHES)
                if not elsewhere:
                    text = f"Patroni reads no '{'.'.join(path)}'"
                    hint = did_you_mean(path[n], known) or "it passes over it without a word"
                    found.append(Finding("warning", "HA195", text, span, hint))
    return found


def _findings(conf: PatroniConf, config: PatroniConfig) -> list[Finding]:
    found = _unknown(conf)
    for name in (*NUMBERS, *SWITCHES):
        value = conf.get(name)
        if value is not None:
            text = f"'{name}' has no effect here: it is a dynamic setting"
            hint = f"write it below bootstrap.dcs, or: patronictl edit-config -s {name}=..."
            found.append(Finding("warning", "HA197", text, value.key or value.span, hint))
    for name, value in conf.below("postgresql", "parameters"):
        if name in CMDLINE:
            text = f"'{name}' has no effect here: Patroni takes it from the DCS only"
            hint = "write it below bootstrap.dcs.postgresql.parameters"
            found.append(Finding("warning", "HA197", text, value.key or value.span, hint))
    for section in (("bootstrap", "dcs"), ()):
        for name, value in conf.below(*section, "postgresql", "parameters"):
            if name.lower() not in KNOWN and "." not in name:
                # Source: patroni/postgresql/validator.py, transform_postgresql_parameter_value
                text = f"PostgreSQL knows no parameter '{name}': Patroni leaves it out"
                hint = did_you_mean(name, sorted(KNOWN))
                found.append(Finding("warning", "HA195", text, value.key or value.span, hint))
    for path in (("bootstrap", "dcs", "standby_cluster"), ("citus",)):
        if conf.has(*path):
            text = f"{'.'.join(path)} is not simulated in this version"
            found.append(Finding("error", "HA195", text, conf.maps.get(path)))
    if len(config.hosts) == 1:
        span = next((conf.maps[k] for k in (("etcd3",), ("etcd",)) if k in conf.maps), None)
        text = "Patroni knows one etcd member: when that is gone the primary is demoted"
        found.append(Finding("warning", "HA198", text, span, "list all members of a cluster of 3"))
    rewind = config.dynamic.use_pg_rewind
    if not rewind and not config.remove_diverged:
        origin = config.where["use_pg_rewind"]
        span = origin if isinstance(origin, Span) else conf.maps.get(("postgresql",))
        text = "use_pg_rewind is off: a primary that diverged cannot come back by itself"
        found.append(Finding("warning", "HA199", text, span, "use_pg_rewind: true"))
    return found


# ---- values ------------------------------------------------------------------------------------


def _word(value: Value) -> str:
    if isinstance(value.value, bool):
        return "on" if value.value else "off"
    return str(value.value)


def _text(conf: PatroniConf, *path: str) -> str:
    value = conf.get(*path)
    return "" if value is None or isinstance(value.value, list) else str(value.value)


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and int(str(value).strip()[:12]) is not None
    except ValueError:
        try:
            return parse_size_bytes(str(value), "pg", zero=True) is not None
        except (ValueError, KeyError):
            return False


def _integer(value: Value | None, default: int) -> int:
    """A whole number, or a size with a unit (maximum_lag_on_failover: 1MB)."""
    if value is None or not _is_number(value.value):
        return default
    text = str(value.value).strip()
    try:
        return int(text[:12])
    except ValueError:
        return int(parse_size_bytes(text, "pg", zero=True))


def _switch(value: Value | None) -> bool:
    """Source: patroni/utils.py parse_bool."""
    if value is None:
        return False
    return value.value is True or str(value.value).lower() in ("on", "true", "yes", "1")


def _hosts(conf: PatroniConf) -> tuple[tuple[str, int], ...]:
    """The etcd members that are named: hosts, or host, or url."""
    for section in ("etcd3", "etcd"):
        value = conf.get(section, "hosts")
        if value is not None:
            many = value.value if isinstance(value.value, list) else str(value.value).split(",")
            return tuple(split_address(str(one), ETCD_PORT) for one in many if str(one).strip())
        for name in ("host", "url", "proxy"):
            if one := _text(conf, section, name):
                return (split_address(one, ETCD_PORT),)
    return ()


def _address(conf: PatroniConf, port: int, *path: str) -> tuple[str, int]:
    return split_address(_text(conf, *path).split(",")[0], port)


def split_address(text: str, port: int) -> tuple[str, int]:
    """(host, port) of `host:port`, `[::1]:port`, `http://host:port` or a bare host.

    >>> split_address("http://10.0.0.1:2379", 1), split_address("pg-1", 8008)
    (('10.0.0.1', 2379), ('pg-1', 8008))
    """
    rest = text.strip().rpartition("//")[2].partition("/")[0]
    host, colon, last = rest.rpartition(":")
    if not colon or not last.isascii() or not last.isdigit():
        return rest.strip("[]"), port
    return host.strip("[]"), int(last[:5])
