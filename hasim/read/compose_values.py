"""The short and long forms of single compose fields: ports, volumes, healthcheck, words.

Source: compose specification (services element); durations and sizes as Go and Docker read them.
"""

from __future__ import annotations

import posixpath
import re
import shlex

from hasim.errors import Finding, did_you_mean
from hasim.read.compose_types import ComposeHealthcheck, Mount, PortMapping
from hasim.read.compose_words import HEALTHCHECK
from hasim.read.yaml_node import Node, as_bool, as_int, as_str
from hasim.source import Span
from hasim.units import parse_cores, parse_duration_s, parse_size_bytes

_MAX_PORTS = 10_000


def fail(findings: list[Finding], message: str, span: Span | None, hint: str = "") -> None:
    """Take down a wrong value."""
    findings.append(Finding("error", "HA143", message, span, hint))


def seconds(node: Node | None, what: str, findings: list[Finding]) -> float | None:
    """A duration ("1m30s") in seconds; None if it is not written or wrong."""
    text = as_str(node, what, findings)
    if node is None or not text:
        return None
    try:
        return parse_duration_s(text, "compose", zero=True)
    except ValueError as error:
        fail(findings, f"{what}: {error}", node.span)
        return None


def size(node: Node | None, what: str, findings: list[Finding]) -> int:
    """A size ("512m", a bare number is bytes); 0 if it is not written or wrong."""
    text = as_str(node, what, findings)
    if node is None or not text:
        return 0
    try:
        return parse_size_bytes(text, "compose", zero=True)
    except ValueError as error:
        fail(findings, f"{what}: {error}", node.span)
        return 0


def cores(node: Node | None, what: str, findings: list[Finding]) -> float:
    """A number of CPUs; 0 if it is not written, 0 (Docker: no limit) or wrong."""
    text = as_str(node, what, findings)
    if node is None or not text or text.strip("0.") == "":
        return 0.0
    try:
        return parse_cores(text)
    except ValueError as error:
        fail(findings, f"{what}: {error}", node.span)
        return 0.0


def words(node: Node | None, what: str, findings: list[Finding]) -> tuple[str, ...] | None:
    """command or entrypoint as words: a list as it is, a string split as compose splits it."""
    if node is None or node.is_null:
        return None
    if node.kind == "seq":
        return tuple(as_str(item, f"{what} item", findings) for item in node.value)
    try:
        return tuple(shlex.split(as_str(node, what, findings)))
    except ValueError as error:
        fail(findings, f"{what} cannot be split into words: {error}", node.span)
        return ()


def texts(node: Node | None, what: str, findings: list[Finding]) -> tuple[str, ...]:
    """A list of texts (a single text is a list of one)."""
    if node is None or node.is_null:
        return ()
    items = node.value if node.kind == "seq" else (node,)
    return tuple(as_str(item, what, findings) for item in items)


def healthcheck(node: Node | None, findings: list[Finding]) -> ComposeHealthcheck | None:
    """The healthcheck element; None if there is none."""
    if node is None or node.is_null:
        return None
    if node.kind != "map":
        fail(findings, "healthcheck must be a map", node.span)
        return None
    for key, _ in node.value:
        if key.raw not in HEALTHCHECK and not key.raw.startswith("x-"):
            message = f"healthcheck has no '{key.raw}'"
            hint = did_you_mean(key.raw, HEALTHCHECK)
            findings.append(Finding("error", "HA142", message, key.span, hint))
    test = _test(node.get("test"), findings)
    disable = as_bool(node.get("disable"), "healthcheck.disable", findings)
    retries = node.get("retries")
    count = as_int(retries, "healthcheck.retries", findings)
    if retries is not None and count < 0:
        fail(findings, "healthcheck.retries must not be negative", retries.span)

    def time(name: str) -> float | None:
        return seconds(node.get(name), f"healthcheck.{name}", findings)

    return ComposeHealthcheck(
        test,
        time("interval"),
        time("timeout"),
        count if retries is not None and count >= 0 else None,
        time("start_period"),
        time("start_interval"),
        disable or test[:1] == ("NONE",),
        node.span,
    )


def _test(node: Node | None, findings: list[Finding]) -> tuple[str, ...]:
    if node is None or node.is_null:
        return ()
    if node.kind == "scalar":
        return ("CMD-SHELL", node.raw)
    test = texts(node, "healthcheck.test item", findings)
    if test[:1] not in (("NONE",), ("CMD",), ("CMD-SHELL",)):
        message = "the list healthcheck.test must begin with NONE, CMD or CMD-SHELL"
        fail(findings, message, node.span, "or write the command as one text")
    return test


_SHORT = re.compile(
    r"(?:(?:(?P<ip>\[[0-9a-fA-F:.]+\]|[0-9a-fA-F:.]*?):)?(?P<host>[0-9-]*):)?"
    r"(?P<port>[0-9-]+)(?:/(?P<protocol>[a-z]+))?",
    re.ASCII,
)
_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


def _range(text: str) -> range | None:
    """The ports of "80" or "8000-8009"; None if they are none."""
    found = _RANGE.fullmatch(text)
    if not found:
        return None
    first, last = int(found[1]), int(found[2] or found[1])
    return range(first, last + 1) if 0 <= first <= last <= 65535 else None


def ports(node: Node | None, findings: list[Finding]) -> tuple[PortMapping, ...]:
    """All published ports; the same mapping written twice is one, as in compose."""
    if node is None or node.is_null:
        return ()
    if node.kind != "seq":
        fail(findings, "ports must be a list", node.span)
        return ()
    out: dict[tuple[str, int, int, str], PortMapping] = {}
    for item in node.value:
        ip, host, target, protocol = _long(item, findings) or _short(item)
        hosts = _range(host) if host else range(1)
        targets = _range(target)
        if not hosts or not targets or (targets[0] == 0):
            fail(
                findings,
                f"'{(item.raw or 'this')[:60]}' is not a port mapping",
                item.span,
                'write "host:container", "ip:host:container" or the long form',
            )
            continue
        if len(hosts) not in (1, len(targets)) and len(targets) != 1:
            fail(findings, "the two port ranges have different lengths", item.span)
            continue
        if len(out) + len(targets) > _MAX_PORTS:
            fail(findings, f"more than {_MAX_PORTS} ports", item.span)
            break
        for i, port in enumerate(targets):
            number = hosts[i] if len(hosts) == len(targets) else hosts[0]
            key = (ip, number, port, protocol)
            out[key] = PortMapping(*key, item.span)
    return tuple(out.values())


def _short(item: Node) -> tuple[str, str, str, str]:
    found = _SHORT.fullmatch(item.raw) if item.kind == "scalar" and len(item.raw) < 100 else None
    if not found:
        return "", "", "", ""
    ip = (found["ip"] or "").strip("[]")
    return ip, found["host"] or "", found["port"], found["protocol"] or "tcp"


def _long(item: Node, findings: list[Finding]) -> tuple[str, str, str, str] | None:
    if item.kind != "map":
        return None
    known = ("target", "published", "host_ip", "protocol", "mode", "name", "app_protocol")
    for key, _ in item.value:
        if key.raw not in known and not key.raw.startswith("x-"):
            message = f"ports has no '{key.raw}'"
            hint = did_you_mean(key.raw, known)
            findings.append(Finding("error", "HA142", message, key.span, hint))
    ip, host, target, protocol = (
        as_str(item.get(n), f"ports.{n}", findings)
        for n in ("host_ip", "published", "target", "protocol")
    )
    return ip, host, target, protocol or "tcp"


def mounts(node: Node | None, folder: str, findings: list[Finding]) -> tuple[Mount, ...]:
    """The volumes of a service; a later one at the same place inside replaces the earlier.

    folder: what relative bind sources are relative to.
    """
    if node is None or node.is_null:
        return ()
    if node.kind != "seq":
        fail(findings, "volumes must be a list", node.span)
        return ()
    out = {}
    for item in node.value:
        mount = _mount(item, folder, findings)
        if not mount.target:
            fail(findings, "a volume needs a place inside the container", item.span)
            continue
        out[mount.target] = mount
    return tuple(out.values())


def _mount(item: Node, folder: str, findings: list[Finding]) -> Mount:
    if item.kind == "map":
        kind, source, target = (
            as_str(item.get(n), f"volumes.{n}", findings) for n in ("type", "source", "target")
        )
        read_only = as_bool(item.get("read_only"), "volumes.read_only", findings)
        if kind not in ("volume", "bind", "tmpfs"):
            kind = "other"
        if kind == "volume" and not source:
            kind = "anonymous"
    else:
        parts = as_str(item, "volume", findings).split(":")
        source, target = (parts[0], parts[1]) if len(parts) > 1 else ("", parts[0])
        read_only = "ro" in (parts[2].split(",") if len(parts) > 2 else ())
        path = source.startswith(("/", ".", "~"))
        kind = ("bind" if path else "volume") if source else "anonymous"
    if kind == "bind" and not source.startswith(("/", "~")):
        source = posixpath.normpath(posixpath.join(folder, source))
    return Mount(kind, source, target.rstrip("/") or target, read_only, item.span)
