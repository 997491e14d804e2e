"""One merged service node as a ComposeService; unknown keys and wrong values become findings."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hasim.errors import Finding, did_you_mean
from hasim.read import compose_values as values
from hasim.read.compose_env import dotenv
from hasim.read.compose_load import Loader
from hasim.read.compose_types import ComposeHealthcheck, ComposeService, Dependency, Insert
from hasim.read.compose_types import NetworkUse as Use
from hasim.read.compose_words import CONDITIONS, DEPLOY, LIMITS, RESOURCES, SERVICE
from hasim.read.yaml_node import Node, as_bool, as_int, as_str
from hasim.source import Span, Text

_RESTART = re.compile(r"no|always|unless-stopped|on-failure(?::[0-9]+)?", re.ASCII)


def read_service(
    name: str,
    key: Node,
    node: Node,
    own: tuple[Node, ...],
    chain: tuple[tuple[str, str], ...],
    loader: Loader,
    folder: str,
    files: tuple[str, ...],
) -> ComposeService:
    """The service. own: its nodes in the project's files; folder: the project's."""
    reader = _Reader(name, node, loader, folder, files)
    reader.check_keys()
    where: dict[str, Span] = {}
    written: dict[str, str] = {}
    _collect(node, "", where, written)
    fields: dict[str, Any] = reader.texts() | reader.resources(where, written) | reader.lists(where)
    check = values.healthcheck(node.get("healthcheck"), loader.findings)
    return ComposeService(
        name=name,
        span=key.span,
        file=key.span.file,
        healthcheck=_with_insert(check, own, loader),
        extends=chain,
        own=tuple(o.span for o in own),
        insert=insert_into(own[-1], loader.texts) if own else None,
        where=where,
        written=written,
        **fields,
    )


def _with_insert(
    check: ComposeHealthcheck | None, own: tuple[Node, ...], loader: Loader
) -> ComposeHealthcheck | None:
    mine = own[-1].get("healthcheck") if own else None
    if check is None or mine is None or not inside(mine.span, own[-1].span):
        return check
    return replace(check, insert=insert_into(mine, loader.texts))


def inside(inner: Span, outer: Span) -> bool:
    """True if `inner` is written within `outer`."""
    return inner.file == outer.file and outer.start <= inner.start and inner.end <= outer.end


def _collect(node: Node, prefix: str, where: dict[str, Span], written: dict[str, str]) -> None:
    """Dotted field names to the span and the text of their values, maps at every level."""
    for name, value in node.items():
        where[prefix + name] = value.span
        if value.kind == "map":
            _collect(value, f"{prefix}{name}.", where, written)
        elif value.kind == "scalar" and not value.is_null:
            written[prefix + name] = value.raw


def insert_into(node: Node, texts: Mapping[str, Text]) -> Insert | None:
    """Where a map can take one more line (or one more pair, in the flow style)."""
    text = texts[node.span.file]
    if node.kind != "map" or not node.value:
        return None
    if node.style == "flow":
        end = node.span.end - 1
        comma = "" if text.text[node.span.start : end].rstrip().endswith((",", "{")) else ", "
        return Insert(text.span(end, end), comma)
    end = text.text.find("\n", node.span.end)
    end = len(text.text) if end < 0 else end
    line_end = "\n"
    if text.text[end - 1 : end] == "\r":
        end, line_end = end - 1, "\r\n"
    return Insert(text.span(end, end), line_end + " " * (node.span.col - 1))


@dataclass(slots=True)
class _Reader:
    name: str
    node: Node
    loader: Loader
    folder: str
    files: tuple[str, ...]

    @property
    def findings(self) -> list[Finding]:
        return self.loader.findings

    def check_keys(self) -> None:
        """Words that compose does not know."""
        deploy = self.node.get("deploy")
        resources = deploy.get("resources") if deploy else None
        limits = [resources.get(n) for n in RESOURCES] if resources else []
        for node, known, what in (
            (self.node, SERVICE, f"service '{self.name}'"),
            (deploy, DEPLOY, "deploy"),
            (resources, RESOURCES, "deploy.resources"),
            *((limit, LIMITS, "deploy.resources limits") for limit in limits),
        ):
            if node is None or node.kind != "map":
                continue
            for key, _ in node.value:
                if key.raw in known or key.raw.startswith("x-"):
                    continue
                hint = did_you_mean(key.raw, known)
                message = f"{what} has no '{key.raw}'"
                self.findings.append(Finding("error", "HA142", message, key.span, hint))

    def text(self, field: str, default: str = "") -> str:
        return as_str(self.node.get(field), field, self.findings, default)

    def texts(self) -> dict[str, Any]:
        """Fields that are one text or flag."""
        found, findings = self.node.get, self.findings
        restart = self.text("restart", "no")
        if not _RESTART.fullmatch(restart):
            hint = "no, always, unless-stopped or on-failure[:times]"
            node = found("restart")
            values.fail(findings, f"restart is '{restart}'", node.span if node else None, hint)
            restart = "no"
        names = (
            "image",
            "container_name",
            "hostname",
            "stop_signal",
            "network_mode",
            "pid",
            "user",
        )
        command, entrypoint = found("command"), found("entrypoint")
        grace = values.seconds(found("stop_grace_period"), "stop_grace_period", findings)
        return {name: self.text(name) for name in names} | {
            "restart": restart,
            "stop_grace_s": grace,
            "init": as_bool(found("init"), "init", findings),
            "command": values.words(command, "command", findings),
            "command_is_string": command is not None and command.kind == "scalar",
            "entrypoint": values.words(entrypoint, "entrypoint", findings),
            "entrypoint_is_string": entrypoint is not None and entrypoint.kind == "scalar",
            "profiles": values.texts(found("profiles"), "profile", findings),
        }

    def resources(self, where: dict[str, Span], written: dict[str, str]) -> dict[str, Any]:
        """cpus, memory and replicas, from either place; `where` gets the short name too."""
        findings = self.findings
        deploy = self.node.get("deploy")
        resources = deploy.get("resources") if deploy else None
        limits = resources.get("limits") if resources else None
        reserved = resources.get("reservations") if resources else None

        def pick(field: str, parent: Node | None, below: str, path: str) -> tuple[Node | None, str]:
            direct = self.node.get(field)
            other = parent.get(below) if parent else None
            if direct is not None and other is not None and direct.raw != other.raw:
                message = f"{field} and {path}.{below} say different things"
                findings.append(Finding("error", "HA148", message, direct.span, str(other.span)))
            if direct is None and other is not None:
                where[field], written[field] = other.span, other.raw
                return other, f"{path}.{below}"
            return direct, field

        at = "deploy.resources"
        return {
            "cpus": values.cores(*pick("cpus", limits, "cpus", f"{at}.limits"), findings),
            "cpu_shares": as_int(self.node.get("cpu_shares"), "cpu_shares", findings),
            "cpus_reserved": values.cores(
                reserved.get("cpus") if reserved else None, f"{at}.reservations.cpus", findings
            ),
            "mem_limit_bytes": values.size(
                *pick("mem_limit", limits, "memory", f"{at}.limits"), findings
            ),
            "mem_reservation_bytes": values.size(
                *pick("mem_reservation", reserved, "memory", f"{at}.reservations"), findings
            ),
            "replicas": self._replicas(*pick("scale", deploy, "replicas", "deploy")),
        }

    def _replicas(self, node: Node | None, what: str) -> int:
        count = as_int(node, what, self.findings, 1)
        if node is not None and not 0 <= count <= 10_000:
            values.fail(self.findings, f"{what} must be 0 to 10000", node.span)
            return 1
        return count

    def lists(self, where: dict[str, Span]) -> dict[str, Any]:
        """Fields that are lists or maps."""
        found, findings = self.node.get, self.findings
        volumes = found("volumes")
        env_files = self._env_files(found("env_file"))
        return {
            "environment": self._environment(env_files, where),
            "env_file": tuple(path for path, _, _ in env_files),
            "ports": values.ports(found("ports"), findings),
            "expose": self._expose(found("expose")),
            "networks": self._networks(found("networks")),
            "volumes": values.mounts(volumes, self._base(volumes), findings),
            "depends_on": self._depends_on(found("depends_on")),
            "links": values.texts(found("links"), "link", findings),
            "extra_hosts": self._pairs("extra_hosts"),
            "labels": self._pairs("labels"),
            "secrets": self._secrets(found("secrets")),
        }

    def _base(self, node: Node | None) -> str:
        """The folder for relative paths: of an extended file its own, else the project's."""
        if node is None or node.span.file in self.files:
            return self.folder
        return posixpath.dirname(node.span.file)

    def _env_files(self, node: Node | None) -> list[tuple[str, bool, Span]]:
        out = []
        for item in node.value if node is not None and node.kind == "seq" else ():
            path = item.get("path") if item.kind == "map" else item
            needed = as_bool(item.get("required"), "env_file.required", self.findings, True)
            if text := as_str(path, "env_file", self.findings):
                full = posixpath.normpath(posixpath.join(self._base(item), text))
                out.append((full, needed, item.span))
        return out

    def _environment(
        self, env_files: list[tuple[str, bool, Span]], where: dict[str, Span]
    ) -> dict[str, str | None]:
        """Variables: env files, then `environment`; a name without value comes from the shell."""
        out: dict[str, str | None] = {}
        for path, needed, span in env_files:
            before = len(self.findings)
            text = self.loader.text(path, span)
            if text is None:
                if not needed:
                    del self.findings[before:]
                continue
            lines = dotenv(text.text, path, self.loader.lookup, self.findings)
            out |= {name: value for name, (value, _) in lines.items()}
            where |= {f"environment.{name}": at for name, (_, at) in lines.items()}
        node = self.node.get("environment")
        for name, value in self._items("environment", node):
            shell = self.loader.lookup(name)
            if not value.is_null:
                out[name] = as_str(value, f"environment.{name}", self.findings)
            elif shell is not None or name not in out:
                out[name] = shell
            where[f"environment.{name}"] = value.span
        return out

    def _items(self, field: str, node: Node | None) -> list[tuple[str, Node]]:
        if node is None or node.is_null:
            return []
        if node.kind != "map":
            values.fail(self.findings, f"{field} must be a map or a list", node.span)
        return list(node.items())

    def _pairs(self, field: str) -> dict[str, str]:
        items = self._items(field, self.node.get(field))
        return {name: as_str(value, f"{field}.{name}", self.findings) for name, value in items}

    def _expose(self, node: Node | None) -> tuple[int, ...]:
        out: dict[int, None] = {}
        for text in values.texts(node, "expose", self.findings):
            bounds = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/[a-z]+)?", text, re.ASCII)
            first = int(bounds[1]) if bounds else 0
            last = int(bounds[2] or first) if bounds else 0
            if not 0 < first <= last <= 65535:
                span = node.span if node else None
                values.fail(self.findings, f"expose: '{text[:40]}' is no port", span)
                continue
            out |= dict.fromkeys(range(first, last + 1))
        return tuple(out)

    def _networks(self, node: Node | None) -> tuple[Use, ...]:
        items = self._items("networks", node)
        if not items:
            return () if self.node.get("network_mode") else (Use("default"),)
        out = []
        for name, value in items:
            aliases = values.texts(value.get("aliases"), "alias", self.findings)
            address = as_str(value.get("ipv4_address"), "ipv4_address", self.findings)
            out.append(Use(name, aliases, address, value.span))
        return tuple(out)

    def _depends_on(self, node: Node | None) -> tuple[Dependency, ...]:
        out = []
        for name, value in self._items("depends_on", node):
            get, findings = value.get, self.findings
            condition = as_str(get("condition"), "condition", findings, "service_started")
            if condition not in CONDITIONS:
                hint = did_you_mean(condition, CONDITIONS)
                values.fail(findings, f"there is no condition '{condition}'", value.span, hint)
                condition = "service_started"
            restart = as_bool(get("restart"), "depends_on.restart", findings)
            required = as_bool(get("required"), "depends_on.required", findings, True)
            out.append(Dependency(name, condition, restart, required, value.span))
        return tuple(out)

    def _secrets(self, node: Node | None) -> tuple[str, ...]:
        items = node.value if node is not None and node.kind == "seq" else ()
        named = (i.get("source") if i.kind == "map" else i for i in items)
        return tuple(as_str(n, "secret", self.findings) for n in named)
