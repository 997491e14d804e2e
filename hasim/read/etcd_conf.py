"""etcd's configuration: its file, else flags and ETCD_* variables; each value with its place.

Source: etcd 3.4 documentation, "Configuration flags": with --config-file all other flags and all
variables are ignored; else a flag wins over its variable. Durations of heartbeat-interval and
election-timeout are whole milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hasim.errors import Finding, did_you_mean
from hasim.read.yaml12 import parse, plain
from hasim.source import Span, Word

# Every flag of etcd 3.4.23 (`etcd --help`, which hides enable-grpc-gateway); the file uses the
# same names without the dashes.
_KEYS = """name data-dir wal-dir snapshot-count heartbeat-interval election-timeout
    initial-election-tick-advance listen-peer-urls listen-client-urls max-snapshots max-wals
    quota-backend-bytes backend-batch-interval backend-batch-limit max-txn-ops max-request-bytes
    max-concurrent-streams grpc-keepalive-min-time grpc-keepalive-interval grpc-keepalive-timeout
    initial-advertise-peer-urls initial-cluster initial-cluster-state initial-cluster-token
    advertise-client-urls discovery discovery-fallback discovery-proxy discovery-srv
    discovery-srv-name strict-reconfig-check pre-vote auto-compaction-retention
    auto-compaction-mode enable-v2 cert-file key-file client-cert-auth client-crl-file
    client-cert-allowed-hostname trusted-ca-file auto-tls peer-cert-file peer-key-file
    peer-client-cert-auth peer-trusted-ca-file peer-cert-allowed-cn peer-cert-allowed-hostname
    peer-auto-tls peer-crl-file cipher-suites cors host-whitelist auth-token bcrypt-cost
    auth-token-ttl enable-pprof metrics listen-metrics-urls logger log-outputs log-level proxy
    proxy-failure-wait proxy-refresh-interval proxy-dial-timeout proxy-write-timeout
    proxy-read-timeout experimental-initial-corrupt-check experimental-corrupt-check-time
    experimental-enable-v2v3 experimental-backend-bbolt-freelist-type
    experimental-enable-lease-checkpoint experimental-compaction-batch-limit
    experimental-peer-skip-client-san-verification experimental-watch-progress-notify-interval
    experimental-warning-apply-duration force-new-cluster debug log-package-levels config-file
    enable-grpc-gateway"""
KEYS = frozenset(_KEYS.split())
# Keys that only the file has. Source: etcd.conf.yml.sample.
_FILE_ONLY = frozenset({"client-transport-security", "peer-transport-security"})
# Switches that may stand without a value.
_FLAGS = """initial-election-tick-advance strict-reconfig-check pre-vote enable-v2 client-cert-auth
    auto-tls peer-client-cert-auth peer-auto-tls enable-pprof force-new-cluster debug
    experimental-initial-corrupt-check experimental-enable-lease-checkpoint
    enable-grpc-gateway"""
_SWITCHES = frozenset(_FLAGS.split())


@dataclass(frozen=True, slots=True)
class EtcdConf:
    """key (a flag's name without dashes) -> value; how: file | flags. unknown: bad flags."""

    values: Mapping[str, Word] = field(default_factory=dict)
    how: str = "flags"
    unknown: tuple[Word, ...] = ()

    def text(self, key: str, default: str = "") -> str:
        """The text of a value, or the default."""
        return self.values[key].text if key in self.values else default


def config_file(words: Sequence[str], environment: Mapping[str, tuple[str, Span]]) -> str:
    """The path that --config-file or ETCD_CONFIG_FILE names, or ""."""
    for key, text in _flags(words):
        if key == "config-file":
            return text
    return environment.get("ETCD_CONFIG_FILE", ("", None))[0]


def read(
    words: Sequence[str],
    span: Span,
    environment: Mapping[str, tuple[str, Span]],
    text: str | None = None,
    file: str = "",
) -> tuple[EtcdConf, list[Finding]]:
    """words: the command; span: where it is written; text: the configuration file's, if any."""
    if text is not None:
        return _read_file(text, file)
    values: dict[str, Word] = {}
    unknown = []
    for name, (value, at) in environment.items():
        key = name.removeprefix("ETCD_").lower().replace("_", "-")
        if name.startswith("ETCD_") and key in KEYS and value:
            values[key] = Word(value, at)
    for key, value in _flags(words):
        if key in KEYS:
            values[key] = Word(value, span)
        else:
            unknown.append(Word(f"--{key}", span))
    return EtcdConf(values, "flags", tuple(unknown)), []


def _flags(words: Sequence[str]) -> list[tuple[str, str]]:
    """(key, value) of `--key=value`, `--key value` and `-key`; Go's flag package takes all."""
    out, i = [], 0
    while i < len(words):
        word = words[i]
        i += 1
        if not word.startswith("-"):
            continue
        key, equals, value = word.lstrip("-").partition("=")
        if not equals and key not in _SWITCHES and i < len(words):
            value = words[i]
            i += 1
        out.append((key, value if equals or value else "true"))
    return out


def _read_file(text: str, file: str) -> tuple[EtcdConf, list[Finding]]:
    node, found = parse(text, file)
    if node is None:
        return EtcdConf(how="file"), found
    if node.kind != "map":
        message = "etcd's configuration file must be a map"
        return EtcdConf(how="file"), [*found, Finding("error", "HA170", message, node.span)]
    values = {}
    for key, child in node.items():
        if key not in KEYS and key not in _FILE_ONLY:
            message = f"etcd knows no key '{key}' and ignores it without a word"
            at = node.key(key)
            hint = did_you_mean(key, KEYS)
            found.append(Finding("warning", "HA170", message, at.span if at else None, hint))
        elif child.kind == "seq":
            values[key] = Word(",".join(str(v) for v in plain(child)), child.span)
        elif child.kind == "scalar" and not child.is_null:
            values[key] = Word(child.raw, child.span)
    return EtcdConf(values, "file"), found
