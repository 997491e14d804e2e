"""haproxy.cfg as the model's Balancer: values resolved, names still to be linked to the stack.

`build` never stops at the first problem. Whatever HAProxy refuses is an error Finding; what it
accepts and hasim cannot simulate is a warning (HA130) or an approximation (HA131). HA132: the
daemon itself warns, or would do something else than the line suggests. HA133: the word is newer
than the HAProxy of the stack. The other codes are those of hasim.read.haproxy.read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hasim.components.haproxy.config_checks import check_plan
from hasim.components.haproxy.config_knobs import balancer_knobs
from hasim.components.haproxy.config_resolvers import resolvers
from hasim.components.haproxy.config_routes import binds, routes
from hasim.components.haproxy.config_scope import Scope, scope
from hasim.components.haproxy.config_server import Surroundings, servers
from hasim.components.haproxy.config_values import (
    GLOBALS,
    Notes,
    Setting,
    Version,
    default_of,
    manual,
    span_of,
)
from hasim.errors import Finding
from hasim.model import Backend, Balancer, Frontend, Knob, Server
from hasim.model_haproxy import INF
from hasim.read import haproxy_words as hw
from hasim.read.haproxy import Section, Tree, show
from hasim.source import Origin, Span

EXPORTER = "prometheus-exporter"  # source: HAProxy manual, "http-request use-service"


@dataclass
class _Build:
    """State of one build."""

    tree: Tree
    version: Version
    notes: Notes = field(default_factory=Notes)
    globals: dict[str, Setting] = field(default_factory=dict)
    scopes: list[Scope] = field(default_factory=list)
    verify: bool = True  # False: `ssl-server-verify none`
    socket: bool = False  # `stats socket`: HAProxy starts even if no proxy listens
    frontends: list[Frontend] = field(default_factory=list)
    backends: list[Backend] = field(default_factory=list)


def build(
    tree: Tree, version: Version = (2, 8, 0), file: str = ""
) -> tuple[Balancer, list[Finding], list[Knob]]:
    """(balancer, findings, knobs) of a tree made by hasim.read.haproxy.read.

    version: of the HAProxy that will run (it decides some defaults). file: the name to keep in
    Balancer.file, the tree's own if empty. Server.instance is "" and reach "none" until linked.
    """
    work = _Build(tree, version)
    _first_look(work)
    work.globals = _globals(tree, work.notes)
    for section in tree.sections:
        if section.kind in hw.PROXIES and section.header.live:
            work.scopes.append(scope(tree, section, work.notes))
    for found in work.scopes:
        if found.section.kind in ("frontend", "listen"):
            work.frontends.append(_frontend(work, found))
        if found.section.kind in ("backend", "listen"):
            work.backends.append(_backend(work, found))
    named = resolvers(tree, work.backends, work.notes)
    _check_names(work, {r.name for r in named})
    _check_routes(work)
    balancer = Balancer(
        instance="",
        version=version,
        maxconn=int(str(_global(work, "maxconn")[0])),
        frontends=tuple(work.frontends),
        backends=tuple(work.backends),
        resolvers=named,
        max_spread_checks_s=float(str(_global(work, "max-spread-checks")[0])) or INF,
        hard_stop_after_s=float(str(_global(work, "hard-stop-after")[0])) or INF,
        file=file or tree.file,
        where={
            d.knob + ("_s" if d.kind == "duration" else ""): _global(work, d.key)[1]
            for d in GLOBALS
        },
    )
    # A file with hundreds of problems is no configuration to tune.
    broken = work.notes.dropped > 0
    knobs = [] if broken else balancer_knobs(tree, work.globals, work.scopes, version)
    return balancer, work.notes.listed(), knobs


# Words that only later versions know. Source: reference on version differences.
_SINCE = {
    "tune.max-checks-per-thread": (2, 9, 0),
    "init-state": (3, 1, 0),
    "check-reuse-pool": (3, 2, 0),
}


def _first_look(work: _Build) -> None:
    """Words that the HAProxy of this stack does not know yet; `ssl-server-verify none`."""
    for section in work.tree.sections:
        for line in section.lines if section.kind in (*hw.PROXIES, "global") else ():
            if line.live and line.texts[:2] == ("ssl-server-verify", "none"):
                work.verify = False
            if line.live and line.texts[:2] == ("stats", "socket"):
                work.socket = True
            for word in line.words if line.live else ():
                since = _SINCE.get(word.text)
                if since and since > work.version:
                    text = f"'{word.text}' needs HAProxy {since[0]}.{since[1]}; this stack runs "
                    text += ".".join(str(n) for n in work.version[:2])
                    work.notes.error("HA133", text, word.span)


def _globals(tree: Tree, notes: Notes) -> dict[str, Setting]:
    out: dict[str, Setting] = {}
    for section in tree.sections:
        for line in section.lines if section.kind == "global" else ():
            if line.live and line.texts[0] == "log":
                notes.log(line)
            if not line.live or line.texts[0] not in [d.key for d in GLOBALS]:
                continue
            key = line.texts[0]
            if (rest := notes.arguments(line, 1, 1, 1)) is None:
                continue
            value: object
            if key in ("maxconn", "spread-checks"):
                value = notes.count(rest[0], key, 0, 50 if key == "spread-checks" else 2**31 - 1)
            else:
                value = notes.duration(rest[0], key)
            if key == "maxconn" and key in out:
                # "'maxconn' already specified. Continuing.": the first one stays (2.6.12).
                notes.warn("HA132", "'maxconn' is already set; HAProxy ignores this", line.span)
            elif value is not None and not (key == "maxconn" and value == 0):
                out[key] = Setting(value, rest[0].text, rest[0].span)
    return out


def _global(work: _Build, key: str) -> tuple[object, Origin]:
    found = work.globals.get(key)
    default = next(d for d in GLOBALS if d.key == key)
    return (found.value, found.span) if found else (default.text, default.source)


def _value(
    work: _Build, found: Scope, key: str, where: dict[str, Origin], as_field: str, otherwise: object
) -> object:
    """The value of a directive and, in `where`, where it came from."""
    setting = found.settings.get(key)
    if setting:
        where[as_field] = setting.span
        return setting.value
    if key in ("mode", "connection", "disabled", "load-server-state-from-file", "check"):
        where[as_field] = manual("4.2", f"{key}: {otherwise}")
    else:
        where[as_field] = default_of(key, work.version, found.mode)[1]
    return otherwise


def _seconds(
    work: _Build, found: Scope, what: str, where: dict[str, Origin], *fallbacks: str
) -> float:
    """A timeout; unset, the first fallback that is set (its place is kept), else INF."""
    as_field = f"timeout_{what.replace('-', '_')}_s"
    value = float(str(_value(work, found, f"timeout {what}", where, as_field, INF)))
    if f"timeout {what}" in found.settings:
        return value
    for other in fallbacks:
        if (setting := found.settings.get(f"timeout {other}")) is not None:
            return float(str(setting.value))
    return value


def _frontend(work: _Build, found: Scope) -> Frontend:
    section, notes = found.section, work.notes
    where: dict[str, Origin] = {}
    own_half = section.name if section.kind == "listen" else ""
    default = found.settings.get("default_backend")
    where["default_backend"] = default.span if default else section.span
    maxconn = int(str(_value(work, found, "maxconn", where, "maxconn", 0)))
    addresses = binds(found, notes)
    if not found.binds:
        text = f"{section} has no 'bind' line: nothing reaches it"
        notes.warn("HA132", text, section.span, "declare it as a backend if this was intended")
    else:
        where["binds"] = found.binds[0].span
    if found.rules:
        where["routes"] = found.rules[0].span
    return Frontend(
        name=section.name,
        mode=str(_value(work, found, "mode", where, "mode", "tcp")),
        binds=addresses,
        default_backend=str(default.value) if default else own_half,
        timeout_client_s=_seconds(work, found, "client", where),
        timeout_http_keep_alive_s=_seconds(
            work, found, "http-keep-alive", where, "http-request", "client"
        ),
        timeout_http_request_s=_seconds(work, found, "http-request", where, "client"),
        maxconn=maxconn or int(str(_global(work, "maxconn")[0])),
        routes=routes(found, notes),
        connection_mode=str(
            _value(work, found, "connection", where, "connection_mode", "keep-alive")
        ),
        disabled=bool(_value(work, found, "disabled", where, "disabled", False)),
        stats=found.stats,
        metrics=any(EXPORTER in line.texts for line in section.lines),
        span=section.span,
        where=where,
    )


def _backend(work: _Build, found: Scope) -> Backend:
    section = found.section
    where: dict[str, Origin] = {}

    def get(key: str, as_field: str, otherwise: object) -> object:
        return _value(work, found, key, where, as_field, otherwise)

    def flag(name: str, as_field: str) -> bool:
        key = f"option {name}"
        return bool(get(key, as_field, default_of(key, work.version, found.mode)[0] == "on"))

    redispatch = get("option redispatch", "redispatch", (False, None))
    on, interval = redispatch if isinstance(redispatch, tuple) else (False, None)
    where["redispatch_interval"] = where["redispatch"]
    retry_on = get("retry-on", "retry_on", ("conn-failure",))
    for line in section.lines:
        if line.live and line.texts == hw.NO_POST_REPLAY:
            where["no_post_replay"] = line.span
    return Backend(
        name=section.name,
        mode=str(get("mode", "mode", "tcp")),
        balance=str(get("balance", "balance", default_of("balance", work.version, "")[0])),
        servers=_servers(work, found),
        retries=int(str(get("retries", "retries", 3))),
        redispatch=bool(on),
        redispatch_interval=-1 if interval is None else interval,  # manual 4.2: last retry
        retry_on=retry_on if isinstance(retry_on, tuple) else ("conn-failure",),
        timeout_connect_s=_seconds(work, found, "connect", where),
        timeout_server_s=_seconds(work, found, "server", where),
        timeout_queue_s=_seconds(work, found, "queue", where, "connect"),
        timeout_tunnel_s=_seconds(work, found, "tunnel", where),
        http_reuse=str(get("http-reuse", "http_reuse", "safe")),
        allbackups=flag("allbackups", "allbackups"),
        abortonclose=flag("abortonclose", "abortonclose"),
        log_health_checks=flag("log-health-checks", "log_health_checks"),
        no_post_replay="no_post_replay" in where,
        disable_on_404=bool(found.value("disable-on-404", False)),
        fullconn=int(str(get("fullconn", "fullconn", 0))),
        persist=flag("persist", "persist"),
        connection_mode=str(get("connection", "connection_mode", "keep-alive")),
        disabled=bool(get("disabled", "disabled", False)),
        state_from_file=str(get("load-server-state-from-file", "state_from_file", "none")),
        span=section.span,
        where=where,
    )


def _servers(work: _Build, found: Scope) -> tuple[Server, ...]:
    notes, where = work.notes, dict[str, Origin]()
    check_s = found.settings.get("timeout check")
    where["timeout_check_s"] = default_of("timeout check", work.version, "")[1]
    if check_s:
        where["timeout_check_s"] = check_s.span
    connect_s = _seconds(work, found, "connect", where)
    spread, where["spread_checks"] = _global(work, "spread-checks")
    around = Surroundings(
        check_plan(found.settings.get("check"), found.checks, notes),
        float(str(check_s.value)) if check_s and check_s.value != INF else None,
        connect_s,
        float(str(spread)) / 100,
        where,
        work.verify,
    )
    out: dict[str, Server] = {}
    for line, options in found.servers:
        for server in servers(line, options, around, notes):
            if server.name in out:
                text = f"another server of {found.section} is named '{show(server.name)}'"
                notes.error("HA127", text, line.span)
            else:
                out[server.name] = server
    return tuple(out.values())


def _check_names(work: _Build, named: set[str]) -> None:
    """Names used twice, and names that lead nowhere."""
    notes = work.notes
    for half in (("frontend", "listen"), ("backend", "listen")):
        seen: dict[str, Section] = {}
        for found in work.scopes:
            section = found.section
            before = seen.get(section.name)
            if section.kind in half and before:
                text = f"{section} has the same name as the {before.kind} in line "
                # 2.6.12 takes a backend followed by a listen section of the same name.
                odd = before.kind == "backend" and section.kind == "listen"
                say = notes.warn if odd else notes.error
                say("HA127", text + str(before.span.line), section.span)
            elif section.kind in half:
                seen[section.name] = section
    for backend in work.backends:
        for server in backend.servers:
            if server.resolvers and server.resolvers not in named:
                text = f"no resolvers section '{show(server.resolvers)}'"
                hint = notes.hint(server.resolvers, named)
                span = server.where["resolvers"]
                notes.error("HA126", text, span if isinstance(span, Span) else None, hint)


def _check_routes(work: _Build) -> None:
    """default_backend and use_backend must name a backend of the same mode; timeouts be set."""
    notes, known = work.notes, {b.name: b for b in work.backends}
    by_span = {s.section.span: s for s in work.scopes}
    for front in [f for f in work.frontends if not f.disabled]:
        assert front.span is not None
        found = by_span[front.span]
        for name in (front.default_backend, *(b for _, b in front.routes)):
            target = known.get(name)
            line = found.settings.get("default_backend")
            span = line.span if line and name == front.default_backend else front.span
            for rule in found.rules:
                if rule.texts[1:2] == (name,):
                    span = span_of(rule.words)
            if name and target is None:
                hint = notes.hint(name, known)
                notes.error("HA126", f"backend '{show(name)}' is not defined", span, hint)
            elif target and front.mode == "http" and target.mode != "http":
                text = f"{front.mode} frontend '{show(front.name)}' leads to the {target.mode} "
                text += f"backend '{show(name)}'"
                notes.error("HA125", text, span, "see 'mode'")
        if not front.default_backend and not front.routes and not front.stats and front.binds:
            text = f"frontend '{show(front.name)}' leads to no backend: every request gets 503"
            notes.warn("HA132", text, front.span)
        _missing(notes, found, ("client",))
    listening = any(f.binds and not f.disabled for f in work.frontends) or work.socket
    if not listening and work.tree.sections:
        text = "no enabled section binds an address; HAProxy refuses to start"
        notes.error("HA125", text, work.tree.sections[0].span)
    for backend in work.backends:
        if backend.servers and backend.span:
            _missing(notes, by_span[backend.span], ("connect", "server"))


def _missing(notes: Notes, found: Scope, names: tuple[str, ...]) -> None:
    missing = [f"timeout {n}" for n in names if f"timeout {n}" not in found.settings]
    if missing:
        text = f"{found.section} waits for ever: {' and '.join(missing)} not set"
        notes.warn("HA132", text, found.section.span, "HAProxy warns of it too")
