"""The steps that put an export into service: what apply.sh runs and hasim.export.rollout simulates.

How a change takes effect decides the step: a reload, a value set in the running process, an edit of
Patroni's dynamic configuration, a restart, a new container. Followers come before leaders, what
adds capacity before what takes it away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hasim.export.apply_patroni import dynamic_changes, shrunk
from hasim.export.apply_stack import Behind, HostView, Unit, behind, meaning, sha, views
from hasim.export.base import Deploy
from hasim.model import Knob
from hasim.source import Span

DRAIN_S = 30  # as in shell/apply.lib.sh
ONCE = "the leader hands over once: counted where that is left for last"
WRITTEN = "files are written: nothing reads them yet"
FRESH = "not simulated: a new container, which nobody asks yet"
GONE = "not simulated: a container goes, which the exported stack no longer has"
STRANGE = "not simulated: hasim does not know this software"
UNKNOWN = "not simulated: a hand-over by Sentinel"
# Files of the folder that only hasim and people read.
OURS = ("stack.yaml", "profile.yaml", "scenarios.yaml", "README.md")
# Data first, what takes users' requests last.
_ORDER = ("sentinel", "redis", "etcd", "patroni", "postgres", "other", "service", "haproxy")
_SECRET = ("password", "secret", "token", "passphrase")


@dataclass(frozen=True, slots=True)
class Step:
    """One step on one host. verb, args: a function of shell/apply.lib.sh and its arguments.

    do, target, with_: the fault that does the same in a simulation; do "": none, `note` says why
    (by default that no connection is touched). files: paths that it writes.
    """

    host: str
    text: str
    verb: str
    args: tuple[str, ...]
    files: tuple[str, ...] = ()
    do: str = ""
    target: str = ""
    with_: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """All steps by host, in the order of the hosts; notes: what the scripts leave to people."""

    hosts: tuple[HostView, ...]
    steps: Mapping[str, tuple[Step, ...]]
    notes: tuple[str, ...]

    @property
    def all(self) -> list[Step]:
        """Every step in the order of the rollout."""
        return [s for steps in self.steps.values() for s in steps]


def plan(deploy: Deploy) -> Rollout:
    """The rollout of a Deploy. Deterministic; reads no file."""
    hosts = views(deploy)
    changed = [p for p in sorted({*deploy.texts, *deploy.before})
               if deploy.texts.get(p) != deploy.before.get(p)]  # fmt: skip
    work = _Planner(deploy, tuple(hosts), tuple(changed))
    steps = {view.name: tuple(_Host(work, view).steps()) for view in hosts}
    steps = _one_switchover(steps)
    written = {f for own in steps.values() for s in own for f in s.files}
    ours = {*OURS, deploy.scenarios.path.rpartition("/")[2]}
    for path in changed:
        if path not in written | work.covered and path not in ours:
            work.notes.append(f"`{path}` changed; no container mounts it")
    return Rollout(tuple(hosts), steps, tuple(dict.fromkeys(work.notes)))


def _one_switchover(steps: Mapping[str, tuple[Step, ...]]) -> dict[str, tuple[Step, ...]]:
    """The leader's host is the last one, so leadership moves once: at the last hand-over."""
    every = [s for own in steps.values() for s in own if s.verb == "patroni_hand_over"]
    done = replace(every[-1], do="switchover", target="patroni:leader", note="") if every else None
    return {
        host: tuple(done if done and s is every[-1] else s for s in own)
        for host, own in steps.items()
    }


@dataclass
class _Planner:
    """What all hosts share."""

    deploy: Deploy
    hosts: tuple[HostView, ...]
    changed: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    covered: set[str] = field(default_factory=set)  # by a command instead of by writing the file

    def put(self, path: str) -> tuple[str, str, str]:
        """PATH OLD NEW for `put`."""
        return path, sha(self.deploy.before.get(path)), sha(self.deploy.texts.get(path))

    def puts(self, paths: Iterable[str]) -> tuple[str, ...]:
        return tuple(word for p in paths for word in self.put(p))

    def knobs(self, file: str, prefix: str) -> Iterator[tuple[Knob, str]]:
        """The changed knobs of a file whose names begin so, each with its new value."""
        new = {(k.name, _file(k)): k.value for k in self.deploy.stack.knobs}
        for knob in self.deploy.changed:
            key = knob.name, _file(knob)
            if key[1] == file and knob.name.startswith(prefix) and new.get(key) is not None:
                yield knob, new[key]


def _file(knob: Knob) -> str:
    if isinstance(knob.origin, Span):
        return knob.origin.file
    return knob.insert.file if knob.insert else ""


class _Host:
    """The steps of one host, in their order."""

    def __init__(self, work: _Planner, view: HostView):
        self.work, self.view, self.deploy = work, view, work.deploy

    def step(self, text: str, verb: str, *args: str, **more: Any) -> Step:
        return Step(self.view.name, text, verb, args, **more)

    def files(self, text: str, paths: Sequence[str]) -> Step:
        puts = self.work.puts(paths)
        return self.step(text, "files", *puts, files=tuple(paths), note=WRITTEN)

    def steps(self) -> Iterator[Step]:
        yield from self.compose_files()
        yield from self.started()
        for kind in ("sentinel", "redis", "patroni", "postgres", "etcd", "prometheus",
                     "keepalived", "other", "service", "haproxy"):  # fmt: skip
            for unit in self.view.of_kind(kind):
                paths = [p for p in self.work.changed if unit.inside(p) and p in self.deploy.texts]
                if paths and unit.service.name in self.view.old:
                    yield from getattr(self, f"of_{kind}", self.of_other)(unit, paths)
        yield from self.recreated()
        yield from self.removed()

    # ---- compose -----------------------------------------------------------------------------
    def compose_files(self) -> Iterator[Step]:
        paths = [p for p in self.work.changed if p in self.view.read or p == ".env"]
        paths = [p for p in paths if p in self.deploy.texts and self.view.files]
        if paths:
            text = f"compose files of {self.view.name}"
            yield self.files(text, paths)

    def started(self) -> Iterator[Step]:
        for unit in self.view.units:
            name = unit.service.name
            if name in self.view.old:
                continue
            paths = [p for p in self.work.changed if unit.inside(p) and p in self.deploy.texts]
            if paths:
                text = f"files of {name}"
                yield self.files(text, paths)
            text = f"{name}: a new container"
            yield self.step(text, "start", name, unit.container, note=FRESH)

    def recreated(self) -> Iterator[Step]:
        units = [u for u in self.view.units if u.service.name in self.view.old]
        units = [u for u in units if meaning(u.service) != meaning(self.view.old[u.service.name])]
        order = {kind: n for n, kind in enumerate(_ORDER)}
        for unit in sorted(units, key=lambda u: order.get(u.kind, 5)):
            yield from self.hand_over(unit)
            yield self.recreate(unit)

    def recreate(self, unit: Unit) -> Step:
        name, one = unit.service.name, unit.instance
        text = f"{name}: a container with the new settings"
        line = behind(self.deploy, self.work.hosts, one.name) if one else Behind((), False, 0)
        if one is None or one.kind != "service":
            line = replace(line, servers=(), drains=False)
        args = (name, unit.container, str(int(line.drains)), str(line.settle_s), *line.servers)
        if not line.drains or one is None:
            do, target = ("recreate", self.follower(unit)) if one else ("", "")
            note = "" if one else STRANGE
            return self.step(text, "recreate", *args, do=do, target=target, note=note)
        with_ = {"via": "serial", "drain": str(float(DRAIN_S)), "wait": "haproxy-up",
                 "wait_limit": "120.0", "on_timeout": "stop",
                 "pause": str(float(line.settle_s))}  # fmt: skip
        text += ", drained before"
        return self.step(text, "recreate", *args, do="rolling-update", target=one.name, with_=with_)

    def follower(self, unit: Unit) -> str:
        """Who is struck where a hand-over came before: one that does not lead, whoever that is."""
        assert unit.instance is not None
        several = len([u for v in self.work.hosts for u in v.of_kind(unit.kind)]) > 1
        handed = unit.kind == "patroni" or (unit.kind == "redis" and self.sentinel() is not None)
        replicas = handed and several
        return f"{unit.kind}:replica[?]" if replicas else unit.instance.name

    def removed(self) -> Iterator[Step]:
        here = {u.service.name for u in self.view.units}
        then = replace(self.deploy, stack=self.deploy.old, texts=self.deploy.before)
        known = {
            i.compose_service: i.name for i in then.stack.instances if i.host == self.view.name
        }
        for name, service in self.view.old.items():
            if name in here:
                continue
            container = service.container_name or f"service:{name}"
            line = behind(then, self.work.hosts, known.get(name, ""))
            text = f"{name}: no longer part of the stack"
            drains = line.servers if line.drains else ()
            yield self.step(text, "remove", name, container, *drains, note=GONE)

    def hand_over(self, unit: Unit) -> Iterator[Step]:
        """Whoever leads lets go before its container does."""
        if unit.instance is None:
            return
        config, name = unit.instance.config, unit.service.name
        peers = [u for v in self.work.hosts for u in v.of_kind(unit.kind)]
        if unit.kind == "patroni" and len(peers) > 1:
            text = f"{name}: hands over if it leads"
            yield self.step(text, "patroni_hand_over", *self._patroni(unit), note=ONCE)
        sentinel = self.sentinel()
        if unit.kind == "redis" and len(peers) > 1 and sentinel and sentinel.instance:
            other = sentinel.instance.config
            yield self.step(
                f"{name}: hands over if it is the master", "redis_hand_over", unit.container,
                str(config.port), sentinel.container, str(other.port), other.masters[0].name,
                note=UNKNOWN,
            )  # fmt: skip

    def sentinel(self) -> Unit | None:
        """A Sentinel on this host, to be told."""
        return next(iter(self.view.of_kind("sentinel")), None)

    # ---- one kind of software each -----------------------------------------------------------
    def of_haproxy(self, unit: Unit, paths: list[str]) -> Iterator[Step]:
        assert unit.instance is not None
        main = next(b.file for b in self.deploy.stack.balancers if b.instance == unit.instance.name)
        if main not in paths:
            paths = [main, *paths]
        paths.sort(key=lambda p: p != main)
        yield self.step(
            f"{unit.service.name}: reload, after haproxy -c", "haproxy_reload", unit.container,
            unit.inside(main), *self.work.puts(paths), files=tuple(paths),
            do="reload", target=unit.instance.name,
        )  # fmt: skip

    def _hang_up(self, unit: Unit, paths: list[str], check: str) -> Step:
        assert unit.instance is not None
        return self.step(
            f"{unit.service.name}: reload", "hang_up", unit.container, check,
            *self.work.puts(paths), files=tuple(paths), do="reload", target=unit.instance.name,
        )  # fmt: skip

    def of_keepalived(self, unit: Unit, paths: list[str]) -> Iterator[Step]:
        yield self._hang_up(unit, paths, f"keepalived -t -f {unit.inside(paths[0])}")

    def of_prometheus(self, unit: Unit, paths: list[str]) -> Iterator[Step]:
        checks = []
        for path in paths:
            text = self.deploy.texts[path]
            what = "rules" if re.search(r"^groups:", text, re.MULTILINE) else "config"
            checks.append(f"promtool check {what} {unit.inside(path)}")
        yield self._hang_up(unit, paths, " && ".join(checks))

    def of_sentinel(self, unit: Unit, paths: list[str]) -> Iterator[Step]:
        assert unit.instance is not None
        for path in paths:
            prefix = f"sentinel.{unit.instance.name}."
            for knob, value in self.work.knobs(path, prefix):
                master, _, name = knob.name[len(prefix) :].rpartition(".")
                yield self.step(
                    f"{unit.service.name}: {name} {value}, in the running process",
                    "sentinel_set", unit.container, str(unit.instance.config.port), master, name,
                    value, *self.work.put(path), files=(path,),
                )  # fmt: skip
            self.work.covered.add(path)

    def of_redis(self, unit: Unit, paths: list[str]) -> Iterator[Step]:
        assert unit.instance is not None
        prefix, name = f"redis.{unit.instance.name}.", unit.service.name
        for path in paths:
            self.work.covered.add(path)
            for knob, value in self.work.knobs(path, prefix):
                key, port = knob.name[len(prefix) :], str(unit.instance.config.port)
                if knob.effect != "restart":
                    yield self.step(
                        f"{name}: {key} {value}, in the running process", "redis_set",
                        unit.container, port, key, value, *self.work.put(path), files=(path,),
                    )  # fmt: skip
                    continue
                yield from self.hand_over(unit)
                yield self.step(
                    f"{name}: {key} {value}, and a restart", "redis_line", unit.container, name,
                    path, key, value, port, files=(path,), do="restart",
                    target=self.follower(unit),
                )  # fmt: skip

    def of_patroni(self, unit: Unit, paths: list[str]) -> Iterator[Step]:
        assert unit.instance is not None
        name, config = unit.service.name, unit.inside(paths[0])
        edits, local, restarts = dynamic_changes(self.deploy.before, self.deploy.texts, paths[0])
        secret = [e for e in edits if any(word in e.lower() for word in _SECRET)]
        if secret:
            keys = ", ".join(e.partition("=")[0] for e in secret)
            self.work.notes.append(f"{keys}: a secret in Patroni's dynamic settings: by hand")
        edits = [e for e in edits if e not in secret]
        if edits:
            yield self.step(
                f"{name}: {', '.join(edits)}, in Patroni's dynamic configuration", "patroni_dcs",
                unit.container, config, *edits,
            )  # fmt: skip
        puts = self.work.puts(paths)
        if local:
            yield self.step(
                f"{name}: reload", "patroni_reload", *self._patroni(unit, config), *puts,
                files=tuple(paths), do="reload", target=unit.instance.name,
            )  # fmt: skip
        else:
            yield self.files(f"{name}: its file says the same", paths)
        if less := shrunk(self.deploy.before, self.deploy.texts, paths[0]):
            self.work.notes.append(
                f"{', '.join(less)} got smaller: standbys take that only after a leader has. When "
                f"all hosts are done: `patronictl restart --pending {unit.instance.config.scope}`"
            )
        if restarts:
            who = self._patroni(unit, config)
            if len([u for v in self.work.hosts for u in v.of_kind("patroni")]) > 1:
                text = f"{name}: hands over if it leads and has to restart"
                yield self.step(text, "patroni_hand_over", *who, "pending", note=ONCE)
            yield self.step(
                f"{name}: a restart of PostgreSQL for {', '.join(restarts)}, if pending",
                "patroni_restart",
                *who, do="restart", target=self.follower(unit),
            )  # fmt: skip

    def _patroni(self, unit: Unit, config: str = "") -> tuple[str, ...]:
        """CONTAINER CONFIG SCOPE MEMBER."""
        assert unit.instance is not None
        own = unit.instance.config
        if not config:
            words = [w for w in unit.service.words if w.endswith((".yml", ".yaml"))]
            config = words[-1] if words else ""
        return unit.container, config, own.scope, own.name

    def of_postgres(self, unit: Unit, paths: list[str]) -> Iterator[Step]:
        assert unit.instance is not None
        prefix = f"postgres.{unit.instance.name}."
        for path in paths:
            for knob, value in self.work.knobs(path, prefix):
                key, how = knob.name[len(prefix) :], knob.effect
                how = "restart" if how == "restart" else "reload"
                yield self.step(
                    f"{unit.service.name}: {key} {value}, and a {how}", "alter_system",
                    unit.container, unit.service.name, key, value, how, *self.work.put(path),
                    files=(path,), do=how, target=unit.instance.name,
                )  # fmt: skip

    def of_other(self, unit: Unit, paths: list[str]) -> Iterator[Step]:
        """A file that a container mounts, read when it starts."""
        one = unit.instance
        yield self.step(
            f"{unit.service.name}: a restart", "restart", unit.service.name, unit.container,
            *self.work.puts(paths), files=tuple(paths), do="restart" if one else "",
            target=one.name if one else "", note="" if one else STRANGE,
        )  # fmt: skip
