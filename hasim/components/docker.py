"""Docker Engine: start, stop, kill, re-create, restart policies, health status, host boot.

Read beside the manual: "Start containers automatically", `docker stop`, HEALTHCHECK. Health never
restarts anything; compose's depends_on and scripts look at it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from hasim.components.base import Component, Machine, Process
from hasim.model import image_name
from hasim.source import Span
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.model import HealthCheck, Instance
    from hasim.sim.world import World

# Restart back-off. Source: Docker manual, "docker run --restart" (100 ms, doubled each time up to
# 1 minute, reset once a container ran for 10 s).
BACKOFF_S = 0.1
BACKOFF_LIMIT_S = 60.0
RESET_AFTER_S = 10.0

# Removing a container and creating its successor, network included. Source: assumption; no
# reference gives it, `docker compose up` of one container takes about this long.
RECREATE_S = 1.0

# STOPSIGNAL of images, by the last part of their name. Source: Dockerfiles of the official images.
STOP_SIGNALS = {"haproxy": "SIGUSR1", "nginx": "SIGQUIT", "postgres": "SIGINT"}
STOP_SIGNALS |= dict.fromkeys(("pgvector", "postgis", "timescaledb"), "SIGINT")  # made from it

# Signals that no process can handle. Source: signal(7).
FATAL = ("SIGKILL", "KILL", "9")


class Docker:
    """The engines of all hosts; the timeline speaks the words of `docker events`."""

    def __init__(self, world: World, machine: Machine):
        self.world, self.machine = world, machine

    # ---- commands ----------------------------------------------------------------------------
    def start(self, name: str, cause: int = -1) -> Process | None:
        """`docker start`; None if the container runs, is broken or its host is off."""
        container = self.machine.containers[name]
        container.stopped_by_hand = False
        return self._exec(name, cause)

    def _exec(self, name: str, cause: int) -> Process | None:
        container = self.machine.containers[name]
        if container.process is not None or name in self.machine.broken:
            return None
        if not self.machine.powered(container.spec.host):
            return None
        mark = self._event(name, "container start", cause=cause)
        container.health = "starting" if container.spec.healthcheck else ""
        p = self.machine.exec(name, mark)
        check = container.spec.healthcheck
        if p is not None and check is not None:
            self.world.spawn(self._health(p, check), f"health {name}")
        return p

    def stop(self, name: str, grace_s: float | None = None, cause: int = -1) -> Generator:
        """`docker stop`: the stop signal, a grace period, SIGKILL. Ends when the process has."""
        container = self.machine.containers[name]
        container.stopped_by_hand = True
        p = container.process
        if p is None:
            return
        signal = stop_signal(container.spec)
        grace_s = container.spec.stop_grace_s if grace_s is None else grace_s
        cause = self._event(name, "container kill", f"signal={signal}", cause)
        if signal in FATAL:
            self.machine.exit(p, 137, cause)
            return
        p.send(signal, cause)
        yield self.world.env.any_of([p.ended, self.world.seconds(grace_s)])
        if p.alive:
            cause = self._event(name, "container kill", f"signal=SIGKILL after {grace_s:g}s", cause)
            self.machine.exit(p, 137, cause)

    def kill(self, name: str, cause: int = -1) -> None:
        """`docker kill`: SIGKILL, and the restart policy does not apply."""
        container = self.machine.containers[name]
        container.stopped_by_hand = True
        if container.process is not None:
            cause = self._event(name, "container kill", "signal=SIGKILL", cause)
            self.machine.exit(container.process, 137, cause)

    def restart(self, name: str, grace_s: float | None = None, cause: int = -1) -> Generator:
        """`docker restart`: stop, then start with the same address."""
        yield from self.stop(name, grace_s, cause)
        self.start(name, cause)

    def recreate(
        self, name: str, cause: int = -1, *, image: str = "", same_address: bool = False
    ) -> Generator:
        """`docker compose up --force-recreate`: stop, remove, create, start."""
        container = self.machine.containers[name]
        yield from self.stop(name, None, cause)
        cause = self._event(name, "container destroy", cause=cause)
        yield self.world.seconds(RECREATE_S)
        if not same_address:
            self.machine.new_address(name)
        if image:
            self.set_image(name, image)
        container.backoff_s = 0.0
        self.start(name, cause)

    def set_image(self, name: str, image: str) -> None:
        """The container runs this image from its next start: same | never-healthy | ..."""
        container = self.machine.containers[name]
        if container.image == image:
            return
        container.image = image
        status = 503 if image == "never-healthy" else 0
        for url in self.machine.health_urls(name):
            self.machine.set_unhealthy(name, url, status)

    # ---- what happens by itself --------------------------------------------------------------
    def exited(self, p: Process, cause: int) -> None:
        """PID 1 has ended: log it and let the restart policy act."""
        container = self.machine.containers[p.instance]
        container.health = ""
        cause = self._event(p.instance, "container die", f"exitCode={p.exit_code}", cause)
        ran_s = (self.world.env.now - p.started_ns) / NS
        if ran_s >= RESET_AFTER_S:
            container.backoff_s, container.restarts = 0.0, 0
        if container.stopped_by_hand or not self.wants_restart(container, p.exit_code):
            return
        container.backoff_s = min(container.backoff_s * 2, BACKOFF_LIMIT_S) or BACKOFF_S
        container.restarts += 1
        self.world.spawn(self._again(p, container.backoff_s, cause), f"restart {p.instance}")

    def wants_restart(self, container: Any, exit_code: int) -> bool:
        """Does the restart policy ask for another start after this exit?"""
        policy, _, limit = container.spec.restart.partition(":")
        if policy in ("always", "unless-stopped"):
            return True
        if policy == "on-failure" and exit_code != 0:
            return not limit or container.restarts < int(limit)
        return False

    def _again(self, p: Process, wait_s: float, cause: int) -> Generator:
        yield self.world.seconds(wait_s)
        container = self.machine.containers[p.instance]
        if container.epoch == p.epoch and not container.stopped_by_hand:
            self._exec(p.instance, cause)

    def boot_host(self, host: str, cause: int = -1) -> None:
        """The engine starts with its host: `always` and not-stopped `unless-stopped`; the order
        of depends_on is compose's, not the engine's. Source: Docker manual, restart policies.
        """
        for name, container in self.machine.containers.items():
            policy = container.spec.restart
            if container.spec.host != host:
                continue
            if policy == "always" or (policy == "unless-stopped" and not container.stopped_by_hand):
                container.backoff_s = 0.0
                self.start(name, cause)

    def _health(self, p: Process, check: HealthCheck) -> Generator:
        """HEALTHCHECK: the first probe one interval after the start, then interval after each
        end; failures within start_period do not count until one probe has succeeded.
        """
        container = self.machine.containers[p.instance]
        failures, begun = 0, self.world.env.now
        while True:
            yield self.world.seconds(check.interval_s)
            if not p.alive:
                return
            good = self._probe(p, check)
            if p.frozen:
                yield self.world.seconds(check.timeout_s)
                if not p.alive:
                    return
            grace = (self.world.env.now - begun) / NS < check.start_period_s
            if good:
                failures, status = 0, "healthy"
            elif container.health == "starting" and grace:
                continue
            else:
                failures += 1
                status = "unhealthy" if failures >= check.retries else container.health
            if status != container.health:
                container.health = status
                self._event(p.instance, f"container health_status: {status}", cause=container.blame)

    def _probe(self, p: Process, check: HealthCheck) -> bool:
        """The probe runs inside the container: does the process answer well? Load is not seen."""
        if not p.listening or p.frozen:
            return False
        failing = [url for name, url in self.machine.unhealthy if name == p.instance]
        text = " ".join(check.test)
        named = [u for u in self.machine.health_urls(p.instance) if u in text]
        return not any(u in failing for u in named) if named else not failing

    def _event(self, name: str, event: str, detail: str = "", cause: int = -1) -> int:
        text = f"{name} ({detail})" if detail else name
        return self.world.log("docker", event, text, cause=cause)


def stop_signal(spec: Instance) -> str:
    """What `docker stop` sends first: `stop_signal` of the file, else the image's STOPSIGNAL."""
    if spec.stop_signal != "SIGTERM" or isinstance(spec.where.get("stop_signal"), Span):
        return spec.stop_signal
    return STOP_SIGNALS.get(image_name(spec.image), spec.stop_signal)


class DockerComponent(Component):
    """Registered for its documentation; an engine is no container and has no daemon here."""

    kind = "docker"
    reads = ("docker-compose*.yml",)


COMPONENT = DockerComponent()
