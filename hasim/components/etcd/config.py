"""What etcd's configuration means: the member, its peers, its timers.

Source of names and defaults: etcd 3.4 documentation, "Configuration flags"; `etcd --help` 3.4.23.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from hasim.errors import Finding
from hasim.model import BootFailure, Knob
from hasim.read.etcd_conf import EtcdConf
from hasim.source import Default, Origin, Span

# Source: etcd 3.4 "Configuration flags": ms between heartbeats, ms of the election timeout.
HEARTBEAT_MS = 100
ELECTION_MS = 1000
# Source: embed/config.go Validate: the election timeout must be at least five heartbeats and at
# most 50 s.
HEARTBEATS_PER_ELECTION = 5
MAX_ELECTION_MS = 50_000
CLIENT_PORT, PEER_PORT = 2379, 2380  # source: etcd 3.4 "Configuration flags"
_FLAGS = "etcd 3.4, Configuration flags"


@dataclass(frozen=True, slots=True)
class EtcdConfig:
    """One member. peers: (member name, host, port) of initial-cluster, in its order."""

    name: str = "default"
    cluster: str = "etcd-cluster"
    peers: tuple[tuple[str, str, int], ...] = ()
    heartbeat_s: float = HEARTBEAT_MS / 1000
    election_s: float = ELECTION_MS / 1000
    pre_vote: bool = False
    client_port: int = CLIENT_PORT
    peer_port: int = PEER_PORT
    where: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)


def meaning(
    conf: EtcdConf, instance: str, here: Span | None = None
) -> tuple[EtcdConfig, list[Finding], list[BootFailure], list[Knob]]:
    """(config, findings, why it does not start, knobs)."""
    found: list[Finding] = []
    failures = [
        BootFailure(instance, f"flag provided but not defined: {w.text}", w.span)
        for w in conf.unknown
    ]
    heartbeat = _number(conf, "heartbeat-interval", HEARTBEAT_MS, found)
    election = _number(conf, "election-timeout", ELECTION_MS, found)
    name = conf.text("name", "default")
    peers = _peers(conf.text("initial-cluster"))
    span = conf.values["initial-cluster"].span if "initial-cluster" in conf.values else None
    if peers and name not in [p[0] for p in peers]:
        text = f'couldn\'t find local name "{name}" in the initial cluster configuration'
        failures.append(BootFailure(instance, text, span))
    where = conf.values.get("election-timeout")
    place = where.span if where else None
    if election < HEARTBEATS_PER_ELECTION * heartbeat:
        text = f"election-timeout {election} ms must be at least 5 x heartbeat-interval"
        failures.append(BootFailure(instance, text, place))
    if election > MAX_ELECTION_MS:
        text = f"election-timeout {election} ms is larger than 50 s"
        failures.append(BootFailure(instance, text, place))
    config = EtcdConfig(
        name=name,
        cluster=conf.text("initial-cluster-token", "etcd-cluster"),
        peers=peers or ((name, "localhost", PEER_PORT),),
        heartbeat_s=heartbeat / 1000,
        election_s=election / 1000,
        pre_vote=_on(conf, "pre-vote"),
        client_port=_port(conf.text("listen-client-urls"), CLIENT_PORT),
        peer_port=_port(conf.text("listen-peer-urls"), PEER_PORT),
        where=_where(conf),
    )
    found += _size_findings(config, span or here)
    return config, found, failures, _knobs(config, conf)


def _number(conf: EtcdConf, key: str, default: int, found: list[Finding]) -> int:
    word = conf.values.get(key)
    if word is None:
        return default
    if word.text.isascii() and word.text.isdigit() and int(word.text[:9]) > 0:
        return int(word.text[:9])
    hint = "etcd takes whole milliseconds without a unit"
    found.append(
        Finding("error", "HA171", f"{key}: '{word.text[:40]}' is no number", word.span, hint)
    )
    return default


def _on(conf: EtcdConf, key: str) -> bool:
    return conf.text(key).lower() in ("true", "1", "t")


def _peers(text: str) -> tuple[tuple[str, str, int], ...]:
    """`a=http://10.0.0.1:2380,b=...` as (name, host, port)."""
    out = []
    for part in text.split(","):
        name, equals, url = part.strip().partition("=")
        if equals and name:
            out.append((name, *_address(url, PEER_PORT)))
    return tuple(out)


def _address(url: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        return parts.hostname or "", parts.port or port
    except ValueError:
        return "", port


def _port(urls: str, default: int) -> int:
    return _address(urls.split(",")[0].strip(), default)[1] if urls else default


def _where(conf: EtcdConf) -> dict[str, Origin]:
    texts = {"heartbeat-interval": "100", "election-timeout": "1000", "pre-vote": "false"}
    where: dict[str, Origin] = {k: Default(f"{_FLAGS}: {k} {v}") for k, v in texts.items()}
    where.update({k: w.span for k, w in conf.values.items()})
    return where


def _size_findings(config: EtcdConfig, span: Span | None) -> list[Finding]:
    """One member, or an even number of them."""
    n = len(config.peers)
    if n == 1:
        text = "etcd has one member: its loss stops everything that needs the DCS"
        return [Finding("warning", "HA172", text, span, "three members on three hosts survive one")]
    if n % 2 == 0:
        text = f"{n} etcd members tolerate no more losses than {n - 1}"
        return [Finding("warning", "HA173", text, span, "use an odd number of members")]
    return []


def _knobs(config: EtcdConfig, conf: EtcdConf) -> list[Knob]:
    """`etcd.<name>.heartbeat_interval` and `.election_timeout`; both want a restart."""
    values = {
        "heartbeat-interval": str(round(config.heartbeat_s * 1000)),
        "election-timeout": str(round(config.election_s * 1000)),
    }
    effect = "restart" if conf.how == "file" else "recreate"
    prefix = f"etcd.{config.name}"
    return [
        Knob(f"{prefix}.{k.replace('-', '_')}", v, "redis", config.where[k], effect)
        for k, v in values.items()
    ]
