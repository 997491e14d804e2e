"""HAProxy as a process: start (or refuse to), serve, reload, soft stop. Checks are in checks.py.

Source: HAProxy management guide, "Stopping and restarting HAProxy"; reference/haproxy.md 5-6.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from hasim.components.base import Component, Machine, Process

if TYPE_CHECKING:
    from hasim.components.haproxy.servers import Worker
    from hasim.model import Balancer
    from hasim.sim.world import World


class HAProxy(Component):
    """The process of one balancer. With `init: true` or a master process it behaves the same:
    the container ends when the worker does.
    """

    kind = "haproxy"
    reads = ("haproxy.cfg",)

    def daemon(self, p: Process, world: World, machine: Machine) -> Generator:
        balancer = next((b for b in machine.stack.balancers if b.instance == p.instance), None)
        if balancer is None:
            machine.listen(p, True)
            return
        p.data = self._new_worker(p, world, machine, balancer, p.epoch << 16)
        if p.data is None:
            cause = machine.containers[p.instance].blame
            machine.exit(p, 1, cause)
            return
        blame = machine.containers[p.instance].blame
        machine.listen(p, True, world.log(p.instance, "listening", cause=blame))
        while (signal := (yield from p.signal())) is not None:
            yield from self._signal(p, world, machine, balancer, *signal)

    def _signal(
        self,
        p: Process,
        world: World,
        machine: Machine,
        balancer: Balancer,
        what: str,
        cause: int,
    ) -> Generator:
        """SIGUSR1: soft stop. SIGHUP and SIGUSR2: reload. Others end the process at once."""
        if what in ("SIGHUP", "SIGUSR2"):
            cause = world.log(p.instance, "Reloading HAProxy", cause=cause)
            number = p.data.number + 1
            new = self._new_worker(p, world, machine, balancer, number, cause)
            if new is not None:
                world.close_idle(p.instance)
                p.data = new
        elif what == "SIGUSR1":
            yield from self._soft_stop(p, world, machine, balancer, cause)
        else:
            code = 1 if what == "child" else 0  # a master goes when its worker dies
            machine.exit(p, code, world.log(p.instance, "exits", what, cause=cause))

    def _new_worker(
        self,
        p: Process,
        world: World,
        machine: Machine,
        balancer: Balancer,
        number: int,
        cause: int = -1,
    ) -> Worker | None:
        """Read the files again: all servers UP, or None if a name does not resolve (LB-7)."""
        from hasim.components.haproxy.resolvers import resolve_at_start
        from hasim.components.haproxy.servers import Worker

        waiting, refused = resolve_at_start(world, machine, balancer)
        for server in refused:
            event = f"could not resolve address '{server.address}'"
            world.log(p.instance, event, "refuses to start", cause=cause, origin=server.span)
        if refused:
            return None
        if p.data is not None:
            p.data.retire()
        worker = Worker(p, world, machine, balancer, number)
        for row in worker.rows:
            row.unresolved = (row.backend.name, row.server.name) in waiting
        worker.start()
        return worker

    def _soft_stop(
        self, p: Process, world: World, machine: Machine, balancer: Balancer, cause: int
    ) -> Generator:
        """Listeners close, requests under way go on, up to `hard-stop-after`."""
        mark = world.log(p.instance, "stopping", "soft stop, SIGUSR1", cause=cause)
        machine.listen(p, False, mark)
        p.data.retire()
        world.close_idle(p.instance)
        ends = [world.drained(p.instance)]
        if balancer.hard_stop_after_s < float("inf"):
            ends.append(world.seconds(balancer.hard_stop_after_s))
        yield world.env.any_of(ends)
        yield from p.awake()
        if p.alive:
            machine.exit(p, 0, world.log(p.instance, "exits", cause=mark))

    def settled(self, p: Process, machine: Machine) -> bool:
        """Every server that listens is fully UP, every other one is out of rotation."""
        from hasim.components.haproxy.checks import verdict

        if p.data is None:
            return True
        for row in p.data.rows:
            target = machine.containers.get(row.check_edge.target)
            serving = target is not None and target.process is not None and target.process.listening
            check = row.server.check
            if check is not None and check.kind == "http":
                status = machine.unhealthy.get((row.check_edge.target, check.url), 0)
                serving = serving and (status == 0 or verdict(check, status)[0])
            if row.server.check is not None and not row.in_maintenance:
                top = row.rise + row.fall - 1
                done = row.running and row.health == top if serving else not row.up
                if not done:
                    return False
        return True


COMPONENT = HAProxy()
