"""stack.yaml: what no config says. Machines, placement, links, the way in, groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from hasim.errors import Finding, did_you_mean
from hasim.model import Assumption, Dist, Entry, Host, Link, StatedSize
from hasim.read.forms import DistField, Duration, Form, FormError, Size, place, problem, validate
from hasim.read.yaml12 import Node, parse, plain
from hasim.source import Span
from hasim.units import parse_cores

ENTRIES = ("vip", "dns", "address")
# Assumed until stack.yaml says it: one middling server, a fast start, one zone.
DEFAULT_HOST = Host("host-1", cores=8.0, memory_bytes=16 * 1024**3, boot=Dist("const", 60.0))
RTT_S = 0.0005  # guide audit, section 3: 0.5 ms within a zone


def _cores(value: Any) -> float:
    try:
        return parse_cores(str(value))
    except ValueError as error:
        raise FormError(str(error)) from None


def _strings(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Strings = Annotated[list[str], BeforeValidator(_strings)]
Cores = Annotated[float, BeforeValidator(_cores), WithJsonSchema({"type": "number"})]


class HostForm(Form):
    """A machine; `address` is what its published ports do not tell."""

    cores: Cores
    memory: Size
    boot: DistField | None = None
    address: Strings = []
    source: str = ""


class LinkForm(Form):
    """The network between two hosts."""

    between: list[str] = Field(min_length=2, max_length=2)
    rtt: Duration
    kind: Literal["l2", "routed"] = "l2"
    source: str = ""


def _via(value: Any) -> tuple[str, str]:
    words = value.split() if isinstance(value, str) else []
    if len(words) != 2 or words[0] not in ENTRIES:
        raise FormError("'vip 10.0.0.10', 'dns name' or 'address host' is needed here")
    return words[0], words[1]


class EntryForm(Form):
    """How one kind of user reaches the stack."""

    via: Annotated[
        tuple[str, str],
        BeforeValidator(_via),
        WithJsonSchema({"type": "string", "pattern": "^(vip|dns|address) [^ ]+$"}),
    ]
    source: str = ""


class PlainForm(Form):
    """A process that no compose file starts: a service of profile.yaml or a haproxy.cfg."""

    host: str
    service: str = ""
    haproxy: str = ""
    port: int = Field(0, ge=0, le=65535)
    restart: bool = False


class SizeForm(Form):
    """A row of a capacity table: so many instances, each of that size."""

    instances: int = Field(ge=1, le=10_000)
    cpus: Cores
    memory: Size
    source: str = ""


class StackForm(Form):
    """The whole stack.yaml."""

    name: str = ""
    hosts: dict[str, HostForm] = {}
    place: dict[str, list[str]] = {}
    links: list[LinkForm] = []
    entry: dict[str, EntryForm] = {}
    groups: dict[str, list[str]] = {}
    versions: dict[Literal["haproxy"], str] = {}
    kernel: dict[str, int | float] = {}
    plain: dict[str, PlainForm] = {}
    sizes: dict[str, SizeForm] = {}


@dataclass(frozen=True, slots=True)
class PlainProcess:
    """A process outside of compose. haproxy: its file; port 0: none stated."""

    name: str
    host: str
    service: str
    haproxy: str
    port: int
    restart: bool
    span: Span


@dataclass(frozen=True, slots=True)
class StackFile:
    """What a stack.yaml says. place: (host, compose files). spans: dotted path -> Span."""

    name: str = ""
    hosts: tuple[Host, ...] = ()
    addresses: tuple[tuple[str, str], ...] = ()  # (address, host)
    place: tuple[tuple[str, tuple[str, ...]], ...] = ()
    links: tuple[Link, ...] = ()
    entries: tuple[Entry, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    kernel: Mapping[str, float] = field(default_factory=dict)
    plain: tuple[PlainProcess, ...] = ()
    sizes: tuple[StatedSize, ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    node: Node | None = None

    def span(self, *loc: str | int, key: bool = False) -> Span | None:
        """Where a part of the file stands; None without a file."""
        return place(self.node, loc, key=key) if self.node is not None else None


def read_stackfile(text: str | bytes, file: str) -> tuple[StackFile, list[Finding]]:
    """The stack.yaml and every problem found; an empty StackFile if it cannot be used."""
    node, found = parse(text, file)
    if node is None:
        return StackFile(), found
    form, wrong = validate(StackForm, plain(node), node)
    if form is None:
        return StackFile(), found + wrong
    found += _check(form, node)
    return _stackfile(form, node), found


def _check(form: StackForm, node: Node) -> list[Finding]:
    """Hosts that are named must exist; each pair of hosts has one link."""
    found = []

    def host(name: str, *loc: str | int, key: bool = False) -> None:
        if name not in form.hosts:
            hint = did_you_mean(name, form.hosts)
            found.append(problem(f"host '{name}' is not defined", place(node, loc, key=key), hint))

    for name in form.place:
        host(name, "place", name, key=True)
    for name, process in form.plain.items():
        host(process.host, "plain", name, "host")
        if bool(process.service) == bool(process.haproxy):
            text = "either 'service' (of profile.yaml) or 'haproxy' (a file) is needed"
            found.append(problem(text, place(node, ("plain", name), key=True)))
    pairs: set[frozenset[str]] = set()
    for i, link in enumerate(form.links):
        for j, end in enumerate(link.between):
            host(end, "links", i, "between", j)
        pair = frozenset(link.between)
        if len(pair) < 2 or pair in pairs:
            text = (
                "a link needs two different hosts" if len(pair) < 2 else "this link is here twice"
            )
            found.append(problem(text, place(node, ("links", i, "between"))))
        pairs.add(pair)
    for name, listed in form.place.items():
        for i, file in enumerate(listed):
            if file in listed[:i]:
                text = f"'{file}' is here twice"
                found.append(problem(text, place(node, ("place", name, i))))
    return found


def _stackfile(form: StackForm, node: Node) -> StackFile:
    assumed = []
    hosts = []
    for name, host in form.hosts.items():
        span = place(node, ("hosts", name), key=True)
        boot = host.boot or DEFAULT_HOST.boot
        hosts.append(Host(name, host.cores, host.memory, boot, span))
        if not host.source.startswith("measured"):
            value = f"{host.cores:g} cores, {host.memory} bytes"
            assumed.append(Assumption(f"hosts.{name}", value, host.source or "no source stated"))
        if host.boot is None:
            assumed.append(Assumption(f"hosts.{name}.boot", "60s", "default: power to Docker"))
    for link in form.links:
        if not link.source.startswith("measured"):
            name = f"links.{link.between[0]}-{link.between[1]}"
            source = link.source or "no source stated"
            assumed.append(Assumption(name, f"{link.rtt * 1000:g} ms, {link.kind}", source))
    return StackFile(
        name=form.name,
        hosts=tuple(hosts),
        addresses=tuple((a, n) for n, h in form.hosts.items() for a in h.address),
        place=tuple((h, tuple(files)) for h, files in form.place.items()),
        links=tuple(Link(ln.between[0], ln.between[1], ln.rtt, ln.kind) for ln in form.links),
        entries=tuple(
            Entry(n, e.via[0], e.via[1], place(node, ("entry", n, "via")))
            for n, e in form.entry.items()
        ),
        groups={g: tuple(members) for g, members in form.groups.items()},
        versions={str(k): v for k, v in form.versions.items()},
        kernel={k: float(v) for k, v in form.kernel.items()},
        plain=tuple(
            PlainProcess(
                n,
                p.host,
                p.service,
                p.haproxy,
                p.port,
                p.restart,
                place(node, ("plain", n), key=True),
            )
            for n, p in form.plain.items()
        ),
        sizes=tuple(
            StatedSize(n, z.instances, z.cpus, z.memory, z.source) for n, z in form.sizes.items()
        ),
        assumptions=tuple(assumed),
        node=node,
    )


def names_of_hosts_and_groups(
    folder: Path,
) -> tuple[tuple[str, ...], Mapping[str, tuple[str, ...]]]:
    """Host names and groups of the stack.yaml in a folder; host-1 and none without one."""
    path = folder / "stack.yaml"
    try:
        data = path.read_bytes() if path.is_file() else b""
    except OSError:
        data = b""
    if not data:
        return (DEFAULT_HOST.name,), {}
    made, _ = read_stackfile(data, "stack.yaml")
    return tuple(h.name for h in made.hosts) or (DEFAULT_HOST.name,), made.groups
