"""Is there something in the stack that a metric of the data tier can be about?

A budget about nothing would have no samples in any run, so it is an input error before the first.
"""

from __future__ import annotations

from collections.abc import Iterator

from hasim.errors import did_you_mean
from hasim.metrics_view import Tags
from hasim.model import Stack

# Kinds of software that notice a fault or change a leader, by the word of the tag `by`.
WATCHERS = {
    "haproxy": ("haproxy",),
    "sentinel": ("sentinel",),
    "patroni": ("patroni",),
    "vrrp": ("keepalived",),
    "alert": ("prometheus",),
}
DATABASES = ("postgres", "patroni", "redis")
NEEDS = {  # metric -> (kinds of which one must be there, how to say it)
    "failovers": (("sentinel", "patroni", "keepalived"), "Sentinel, Patroni or keepalived"),
    "false_failovers": (("sentinel", "patroni", "keepalived"), "Sentinel, Patroni or keepalived"),
    "split_brain_seconds": (DATABASES, "PostgreSQL or Redis"),
    "acked_writes_lost": (DATABASES, "PostgreSQL or Redis"),
    "replication_lag": (("postgres", "patroni"), "PostgreSQL"),
    "db_refused_connections": (("postgres", "patroni"), "PostgreSQL"),
    "alert_fired": (("prometheus",), "alerting rule"),
}


def missing(metric: str, tags: Tags, stack: Stack) -> Iterator[tuple[str, str]]:
    """(what the stack does not have, what it has) for a budget; without its metric's name."""
    kinds = {i.kind for i in stack.instances}
    wanted, words = NEEDS.get(metric, ((), ""))
    by = tags.get("by", "haproxy" if metric == "time_to_detect" else "*")
    if wanted and not kinds & set(wanted):
        yield f"there is no {words} in the stack", ""
    elif by in WATCHERS and not kinds & set(WATCHERS[by]):
        here = sorted(word for word, of in WATCHERS.items() if kinds & set(of))
        yield f"by '{by}': nothing of that kind is in the stack", f"there is {', '.join(here)}"
    else:
        yield from _unknown_names(metric, tags, stack)


def _unknown_names(metric: str, tags: Tags, stack: Stack) -> Iterator[tuple[str, str]]:
    known = {"alert": alerts(stack), "pool": pools(stack), "cluster": clusters(stack)}
    if metric == "pool_checkout_wait" and not known["pool"]:
        yield "no service of profile.yaml has a pool", ""
        return
    instances = {name for i in stack.instances for name in (i.name, i.inside) if name}
    known["instance"] = instances
    for tag, names in known.items():
        asked = tags.get(tag, "*")
        if asked not in names | {"*"} and (names or tag != "cluster"):
            hint = did_you_mean(asked, names) or f"there is {', '.join(sorted(names)[:8])}"
            yield f"{tag} '{asked}' is not in the stack", hint


def alerts(stack: Stack) -> set[str]:
    """Names of the alerting rules that a Prometheus of the stack evaluates."""
    return {
        name
        for i in stack.instances
        if i.kind == "prometheus"
        for name in getattr(i.config, "alerts", ())
    }


def pools(stack: Stack) -> set[str]:
    """What the pools of profile.yaml lead to."""
    return {pool.to for s in stack.services for pool in s.pools}


def clusters(stack: Stack) -> set[str]:
    """Names of replicated sets: as the members' configurations give them, a set of Redis by the
    master that their files name.
    """
    by_name = {i.name: i for i in stack.instances}
    out = set()
    for instance in stack.instances:
        stated = getattr(instance.config, "cluster", "")
        if stated and isinstance(stated, str):
            out.add(stated)
        at, seen = instance, set()
        while instance.kind == "redis" and at.name not in seen:
            seen.add(at.name)
            host, port = getattr(at.config, "replicaof", None) or ("", 0)
            at = by_name.get(at.peers.get(f"{host}:{port}", ""), at)
        if instance.kind == "redis":
            out.add(f"redis:{at.name}")
    return out
