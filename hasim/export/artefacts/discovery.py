"""extra/services.json: where each service is reached, what stands behind it, who knows the way."""

from __future__ import annotations

import json
from typing import Any

from hasim.export.artefacts.front import calls_at, endpoint, of_kind, users_at
from hasim.export.base import Artefact, Deploy
from hasim.model import Route, Stack

PATH = "extra/services.json"


def make(deploy: Deploy) -> list[Artefact]:
    """The discovery list; empty for a stack without instances."""
    text = json.dumps(listed(deploy.stack), indent=2, ensure_ascii=False) + "\n"
    return [Artefact(PATH, text, "service discovery: entries, instances, sentinels, databases")]


def listed(stack: Stack) -> dict[str, Any]:
    """{"services": {name: {"entries", "instances"}}, "callers": {"a->b": ...}, ...}.

    Everything as the stack's routes have it; an entry "" was dialled by no file.
    """
    return {
        "services": {
            s.name: _service(stack, s.name)
            for s in stack.services
            if s.ops and any(i.service == s.name for i in stack.instances)
        },
        "callers": {key: _call(stack, way) for key, way in stack.call_routes.items()},
        "sentinels": _sentinels(stack),
        "databases": _databases(stack),
    }


def _service(stack: Stack, name: str) -> dict[str, Any]:
    ways = [w for key, w in stack.op_entries.items() if key.startswith(f"{name}/")]
    ways_in = dict.fromkeys(at for w in ways if (at := users_at(stack, w)))
    inner = [w for w in stack.call_routes.values() if w.service == name]
    ways_in |= dict.fromkeys(at for w in inner if (at := calls_at(stack, w)))
    return {
        "entries": list(ways_in),
        "instances": [
            {"name": i.name, "host": i.host, "address": endpoint(stack, i)}
            for i in stack.instances
            if i.service == name
        ],
    }


def _call(stack: Stack, way: Route) -> dict[str, Any]:
    if way.balancer:
        return {"service": way.service, "at": calls_at(stack, way), "by": way.backend}
    hosts = way.hosts or tuple(i.name for i in stack.instances if i.service == way.service)
    ends = [endpoint(stack, stack.instance(h)) for h in hosts]
    how = way.discovery.partition("@")[0] or "direct"
    return {"service": way.service, "at": ends, "by": how}


def _sentinels(stack: Stack) -> dict[str, list[str]]:
    """Master name to the sentinels that watch it."""
    found: dict[str, list[str]] = {}
    for one in of_kind(stack, "sentinel"):
        for master in getattr(one.config, "masters", ()):
            found.setdefault(master.name, []).append(endpoint(stack, one))
    return found


def _databases(stack: Stack) -> dict[str, Any]:
    """Ways to a PostgreSQL that takes writes and to one that only reads, through a balancer."""
    out: dict[str, Any] = {}
    kinds = {i.name: i.kind for i in stack.instances}
    for balancer in stack.balancers:
        for backend in balancer.backends:
            if not any(kinds.get(s.instance) == "postgres" for s in backend.servers):
                continue
            checks = [s.check for s in backend.servers if s.check is not None]
            url = checks[0].url if checks else ""
            way = next((w for w in stack.call_routes.values() if w.backend == backend.name), None)
            at = calls_at(stack, way) if way else ""
            servers = [f"{s.address}:{s.port}" for s in backend.servers]
            row = {"at": at, "check": url, "servers": servers}
            out.setdefault(backend.name, row)
    if not out:
        for one in of_kind(stack, "postgres"):
            role = "standby" if getattr(one.config, "standby", False) else "primary"
            out.setdefault(role, []).append(endpoint(stack, one))
    return out
