"""What changed in a patroni.yml, and how each part of it takes effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hasim.components.postgres.parameters import PARAMETERS
from hasim.read.yaml12 import parse, plain


def dynamic_changes(
    before: Mapping[str, str], after: Mapping[str, str], path: str
) -> tuple[list[str], bool, list[str]]:
    """(NAME=VALUE of what changed below bootstrap.dcs, whether anything else changed, what of it
    all PostgreSQL takes only when it starts).
    """
    old, new = (_yaml(texts.get(path, "")) for texts in (before, after))
    a, b = (dict(_flat(_dcs(tree))) for tree in (old, new))
    gone = [f"{key}=null" for key in a if key not in b]
    edits = [f"{key}={value}" for key, value in b.items() if a.get(key) != value]
    for tree in (old, new):
        if isinstance(tree.get("bootstrap"), dict):
            tree["bootstrap"].pop("dcs", None)
    c, d = dict(_flat(old)), dict(_flat(new))
    local = {key for key in (*c, *d) if c.get(key) != d.get(key)}
    moved = sorted(local | {e.partition("=")[0] for e in (*edits, *gone)})
    return [*edits, *gone], old != new, [key for key in moved if _restarts(key)]


# A standby refuses to start with less of these than its primary had (manual, 27.4.3), so Patroni
# keeps the old value there until the leader runs with the new one.
_BOUND = ("max_connections", "max_prepared_transactions", "max_locks_per_transaction",
          "max_wal_senders", "max_worker_processes")  # fmt: skip


def shrunk(before: Mapping[str, str], after: Mapping[str, str], path: str) -> list[str]:
    """Parameters that got smaller and that the leader must have before its standbys."""
    old, new = (dict(_flat(_yaml(texts.get(path, "")))) for texts in (before, after))
    found = []
    for key, value in new.items():
        was, name = old.get(key, ""), key.rpartition(".")[2]
        if name in _BOUND and was.isdigit() and value.isdigit() and int(value) < int(was):
            found.append(name)
    return found


def _restarts(key: str) -> bool:
    """A parameter that hasim does not know may be one of those."""
    if key == "postgresql.listen":
        return True
    group, _, name = key.rpartition(".")
    known = PARAMETERS.get(name)
    return group == "postgresql.parameters" and (known is None or known.effect == "restart")


def _yaml(text: str) -> dict[str, Any]:
    node, _ = parse(text.encode("utf-8", "surrogateescape"), "patroni.yml")
    tree = plain(node) if node else None
    return tree if isinstance(tree, dict) else {}


def _dcs(tree: Mapping[str, Any]) -> Any:
    bootstrap = tree.get("bootstrap")
    return bootstrap.get("dcs") or {} if isinstance(bootstrap, dict) else {}


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}{key}.")
    elif isinstance(tree, bool) or tree is None:
        yield prefix.rstrip("."), {True: "true", False: "false", None: "null"}[tree]
    else:
        yield prefix.rstrip("."), str(tree)
