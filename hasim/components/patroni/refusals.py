"""What Patroni refuses to start with, and its knobs; both from the files alone.

Source: patroni 4.1.5 (`patroni --validate-config`, a start without the key); guide audit PG-12 to
PG-14.
"""

from __future__ import annotations

from collections.abc import Iterator

from hasim.components.patroni.config import NUMBERS, SWITCHES, PatroniConfig
from hasim.model import BootFailure, Knob
from hasim.read import pg_hba
from hasim.read.patroni_conf import PatroniConf
from hasim.source import Default, Span

_OTHER_DCS = ("consul", "zookeeper", "exhibitor", "kubernetes", "raft")


def failures(
    conf: PatroniConf, config: PatroniConfig, instance: str, here: Span | None, image: Span | None
) -> list[BootFailure]:
    """Every reason for which the member never serves, in the order in which it would show."""
    made = []
    if image is not None:
        text = "image patroni/patroni: the project publishes none; build one with PostgreSQL in it"
        made.append(BootFailure(instance, text, image, "PG-12"))
    if not config.scope:
        made.append(BootFailure(instance, "exits with KeyError: 'scope'", here, "PG-13"))
    missing = [
        ".".join(path)
        for path in (
            ("restapi", "listen"),
            ("postgresql", "listen"),
            ("postgresql", "data_dir"),
            ("postgresql", "authentication"),
        )
        if not conf.has(*path)
    ]
    for name in missing:
        made.append(BootFailure(instance, f"exits: {name} is not set", here, "PG-13"))
    return made + _dcs(conf, config, instance, here) + _own_server(conf, instance)


def _own_server(conf: PatroniConf, instance: str) -> list[BootFailure]:
    """Where PostgreSQL listens everywhere, Patroni dials it at localhost: pg_hba must let it in.

    Source: patroni 4.1.5, postgresql/config.py _get_tcp_local_address; measured with PostgreSQL 15.
    """
    listen, hba = conf.get("postgresql", "listen"), conf.get("postgresql", "pg_hba")
    by_socket = conf.get("postgresql", "use_unix_socket")
    if listen is None or hba is None or not isinstance(hba.value, list):
        return []
    addresses = str(listen.value).rpartition(":")[0].split(",")
    if by_socket is not None and by_socket.value is True:
        return []
    if not {"*", "0.0.0.0", "localhost", "127.0.0.1"} & {a.strip() for a in addresses}:
        return []
    user = conf.get("postgresql", "authentication", "superuser", "username")
    rules, _ = pg_hba.read("\n".join(map(str, hba.value)), conf.file)
    met = pg_hba.loopback_rule(rules, str(user.value) if user else "postgres", "postgres")
    if met is not None and met.method != "reject":
        return []
    text = 'bootstrap fails: no pg_hba.conf entry for host "127.0.0.1", where Patroni itself dials'
    return [BootFailure(instance, text, hba.span, "PG-4")]


def _dcs(
    conf: PatroniConf, config: PatroniConfig, instance: str, here: Span | None
) -> list[BootFailure]:
    if conf.has("etcd3"):
        span = conf.maps.get(("etcd3",), here)
        if config.hosts:
            return []
        return [BootFailure(instance, "exits: etcd3 names no host", span)]
    if conf.has("etcd"):
        span = next((v.span for k, v in conf.values.items() if k[0] == "etcd"), here)
        text = "waits on etcd for ever: section 'etcd' speaks the v2 API, which etcd has had "
        text += "switched off since 3.4 (/v2/keys answers 404); use etcd3 / PATRONI_ETCD3_HOSTS"
        return [BootFailure(instance, text, span, "PG-14")]
    other = next((name for name in _OTHER_DCS if conf.has(name)), "")
    if other:
        text = f"DCS '{other}' is not simulated in this version (only etcd3)"
        return [BootFailure(instance, text, conf.maps.get((other,), here))]
    text = "exits: Can not find suitable configuration of distributed configuration store"
    return [BootFailure(instance, text, here, "PG-14")]


def knobs(conf: PatroniConf, config: PatroniConfig) -> Iterator[Knob]:
    """`patroni.<name>` for every dynamic setting: a dcs-edit changes a running cluster.

    The first start of the first member takes them from bootstrap.dcs, so that is where they are
    written.
    """
    place = conf.insert.get(("bootstrap", "dcs"))
    for name in (*NUMBERS, *SWITCHES, "use_pg_rewind", "use_slots"):
        origin = config.where[name]
        value = getattr(config.dynamic, name)
        written = conf.get("bootstrap", "dcs", name)
        if written is not None:  # what the file says, before the rule adjusts it
            value = written.value
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if isinstance(origin, Span):
            yield Knob(f"patroni.{name}", text, "patroni", origin, "dcs-edit")
        elif isinstance(origin, Default) and place is not None and name[:4] != "use_":
            span, blanks = place
            insert = f"{blanks}{name}: {{value}}\n"
            yield Knob(f"patroni.{name}", text, "patroni", origin, "dcs-edit", span, insert)
