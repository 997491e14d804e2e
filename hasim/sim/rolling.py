"""rolling-update: one instance after the other gets a new image, as a script would do it.

`via: script` is the guide's rolling-update.sh with its defects (reference/guide-audit.md RU-1 to
RU-4): no drain, `grep healthy` over `docker inspect`, 30 tries with 2 s between them, then on with
the next one whatever came out. `via: serial` does what its arguments say.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hasim.sim.instances import Machine
from hasim.sim.world import World

# Defaults of an argument that is not given. Source: the guide's rolling-update.sh (30 tries of
# 2 s, 5 s between instances).
WAIT_LIMIT_S = 60.0
PAUSE_S = 5.0
SCRIPT_POLL_S = 2.0

# How often a serial update looks at Docker or at HAProxy. Source: models/story-portal/
# rolling-update.sh.
SERIAL_POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The arguments of one rolling update, with defaults filled in. drain_s 0: do not drain."""

    via: str
    drain_s: float
    wait: str
    wait_limit_s: float
    on_timeout: str
    pause_s: float
    image: str

    @classmethod
    def of(cls, args: Mapping[str, str]) -> Plan:
        """From the texts of Fault.args; `drain` is "true", "false" or seconds."""
        limit = float(args.get("wait_limit", WAIT_LIMIT_S))
        drain = args.get("drain", "false")
        return cls(
            via=args.get("via", "serial"),
            drain_s=limit if drain == "true" else 0.0 if drain == "false" else float(drain),
            wait=args.get("wait", "docker-health"),
            wait_limit_s=limit,
            on_timeout=args.get("on_timeout", "continue"),
            pause_s=float(args.get("pause", PAUSE_S)),
            image=args.get("image", "same"),
        )


class RollingUpdate:
    """One run of the script over instances in the given order. `done`: how many were updated."""

    def __init__(self, world: World, machine: Machine, names: Sequence[str], plan: Plan):
        self.world, self.machine, self.names, self.plan = world, machine, names, plan
        self.done = 0

    def run(self, cause: int = -1) -> Generator:
        """The script from its first line to its last."""
        for name in self.names:
            cause = self._say("Updating", name, cause)
            good = yield from self._update(name, cause)
            self.done += 1
            if not good and self.plan.on_timeout != "continue":
                if self.plan.on_timeout == "rollback":
                    mark = self._say("rolling back", name, cause)
                    yield from self.machine.docker.recreate(name, mark, image="same")
                    yield from self._undrain(name, mark)
                self._say("Rolling update stopped", name, cause)
                return
            yield self.world.seconds(self.plan.pause_s)
        self._say("Rolling update complete", f"{self.done} updated", cause)

    def _update(self, name: str, cause: int) -> Generator[Any, Any, bool]:
        plan = self.plan
        if plan.drain_s:
            self._set_state(name, "drain", cause)
            yield from self._until(lambda: self._sessions(name) == 0, SERIAL_POLL_S, plan.drain_s)
        yield from self.machine.docker.recreate(name, cause, image=plan.image)
        good = yield from self._undrain(name, cause)
        if good:
            good = yield from self._until(
                lambda: self._ready(name), self._poll_s, plan.wait_limit_s
            )
        self._say("is healthy" if good else "is not healthy in time", name, cause)
        return good

    @property
    def _poll_s(self) -> float:
        return SCRIPT_POLL_S if self.plan.via == "script" else SERIAL_POLL_S

    def _undrain(self, name: str, cause: int) -> Generator[Any, Any, bool]:
        """A drained server gets requests again once its new container serves: HAProxy still
        believes that the old one is UP. False: it did not come up in time and stays drained.
        """
        if not self.plan.drain_s:
            return True
        good = yield from self._until(
            lambda: self._serves(name), self._poll_s, self.plan.wait_limit_s
        )
        if good:
            self._set_state(name, "ready", cause)
        return good

    def _serves(self, name: str) -> bool:
        """Docker calls it healthy, or, without a health check, it listens."""
        container = self.machine.containers[name]
        if container.spec.healthcheck is not None:
            return container.health == "healthy"
        return container.process is not None and container.process.listening

    def _until(self, holds: Any, poll_s: float, limit_s: float) -> Generator[Any, Any, bool]:
        """Ask, sleep, ask again: as many tries as fit into the limit, each followed by a sleep."""
        for _ in range(max(1, round(limit_s / poll_s))):
            if holds():
                return True
            yield self.world.seconds(poll_s)
        return False

    def _ready(self, name: str) -> bool:
        if self.plan.wait == "none":
            return True
        if self.plan.wait == "haproxy-up":
            return all(row.status == "UP" for row in self._servers(name))
        health = self.machine.containers[name].health
        if self.plan.via == "script":
            return "healthy" in health  # grep also finds it in "unhealthy" (RU-1)
        return health == "healthy"

    def _sessions(self, name: str) -> int:
        p = self.machine.containers[name].process
        return self.world.inflight(name) if p is not None else 0

    def _servers(self, name: str) -> Iterator[Any]:
        """The server lines that lead to an instance, in every HAProxy process that runs."""
        for balancer in self.machine.stack.balancers:
            container = self.machine.containers.get(balancer.instance)
            p = container.process if container else None
            if p is not None and p.data is not None:
                yield from (row for row in p.data.rows if row.server.instance == name)

    def _set_state(self, name: str, state: str, cause: int) -> None:
        for row in self._servers(name):
            row.set_state(state, cause)

    def _say(self, event: str, detail: str, cause: int) -> int:
        return self.world.log("rolling-update", event, detail, cause=cause)
