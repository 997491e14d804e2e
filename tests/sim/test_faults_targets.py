"""Targets that depend on the moment, and the verbs that daemons and links take part in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_world import FakeWorld, make_stack

from hasim.components.base import Component
from hasim.errors import InputError
from hasim.model import Dist, Instance
from hasim.scenario import Fault, When
from hasim.sim.faults import Faults
from hasim.sim.instances import Machine
from hasim.targets import list_targets, resolve


def at(verb: str, target: str = "", lasts: float | None = None, **more) -> Fault:
    span = None if lasts is None else Dist("const", lasts)
    return Fault(verb, target, When(Dist("const", 20.0)), span, **more)


class Idle(Component):
    def daemon(self, p, world, machine):
        yield p.ended


class Daemon:
    """What a data node shows of itself: its role, and what it is told."""

    def __init__(self, role: str = ""):
        self.role, self.told = role, []

    def disk_full(self, on: bool, cause: int = -1) -> None:
        self.told.append(("disk_full", on))

    def clock_jump(self, seconds: float) -> None:
        self.told.append(("clock_jump", seconds))

    def switchover(self, cause: int = -1) -> None:
        self.told.append(("switchover",))


NODES = (
    Instance("redis-1", "redis", "host-2"),
    Instance("redis-2", "redis", "host-3"),
    Instance("pg-1", "patroni", "host-2"),
    Instance("pg-1.postgres", "postgres", "host-2", inside="pg-1"),
    Instance("pg-2", "patroni", "host-3"),
    Instance("pg-2.postgres", "postgres", "host-3", inside="pg-2"),
)
ROLES = ("master", "slave", "leader", "primary", "replica", "standby")


def play(*faults: Fault, until: float = 120.0, roles=ROLES):
    """Nodes that listen and have roles; faults; (world, machine, faults, daemons by name)."""
    made, edges = make_stack()
    made = replace(made, instances=(*made.instances, *NODES))
    world = FakeWorld(made, edges)
    world.scenario = replace(world.scenario, faults=tuple(faults))
    machine = Machine(world)
    daemons = {}
    machine.kinds = dict.fromkeys(machine.kinds, Idle())  # nothing happens by itself
    for node, role in zip(NODES, roles, strict=True):
        p = machine.exec(node.name)
        machine.listen(p, True)
        p.data = daemons[node.name] = Daemon(role)
    control = Faults(world, machine)
    control.start()
    world.run(until)
    return world, machine, control, daemons


def struck(world) -> str:
    """What the first fault's row names."""
    return next(row[5] for row in world.rows if row[3] == "fault")


@pytest.mark.parametrize(
    ("target", "roles", "names"),
    [
        ("redis:master", ROLES, "redis-1"),
        ("redis:replica", ROLES, "redis-2"),
        ("redis:master", ("slave", "master", *ROLES[2:]), "redis-2"),
        ("redis:master", ("slave", "slave", *ROLES[2:]), "nobody at this moment"),
        ("redis:master", ("master", "master", *ROLES[2:]), "redis-1, redis-2"),
        ("postgres:primary", ROLES, "pg-1"),
        ("patroni:leader", ROLES, "pg-1"),
        ("postgres:standby[?]", ROLES, "pg-2"),
    ],
)
def test_a_role_is_whoever_has_it_when_the_fault_strikes(target, roles, names) -> None:
    world, _, _, _ = play(at("blackhole", target), roles=roles)
    assert struck(world) == names


def test_a_container_verb_strikes_the_container_of_an_inner_process() -> None:
    _, machine, _, _ = play(at("docker-kill", "postgres:primary"))
    assert machine.containers["pg-1"].process is None
    assert machine.containers["pg-1.postgres"].process is None
    assert machine.containers["pg-2"].process is not None


def test_kill_process_names_a_process_inside_of_a_container() -> None:
    kill = at("kill-process", "pg-1", args={"process": "postgres"})
    for fault in (kill, at("kill-process", "postgres:primary")):
        world, machine, _, _ = play(fault)
        assert machine.containers["pg-1.postgres"].process is None
        outer = machine.containers["pg-1"].process
        assert outer is not None
        assert [what for what, _ in outer.inbox] == ["child"]
    with pytest.raises(InputError, match="runs no process 'postgress': did you mean 'postgres'"):
        play(at("kill-process", "pg-1", args={"process": "postgress"}))


def test_docker_cannot_stop_a_process_inside_of_a_container() -> None:
    with pytest.raises(InputError, match="is a process inside of 'pg-1'"):
        play(at("stop", "pg-1.postgres"))


def test_power_off_of_a_role_is_that_of_its_host() -> None:
    world, machine, _, _ = play(at("power-off", "redis:master"))
    assert struck(world) == "host-2"
    assert not machine.powered("host-2")


def test_a_partition_around_whoever_leads() -> None:
    cut = at("partition", between=("redis:master", "host:*"), lasts=10.0)
    _, machine, _, _ = play(cut, until=25.0)
    assert not machine.passes("host-2", "host-3")
    assert machine.passes("host-2", "host-2")
    assert machine.passes("host-1", "host-3")


def test_the_disk_of_a_container_and_of_what_runs_inside() -> None:
    full = at("disk-full", "pg-1", lasts=30.0)
    _, _, _, daemons = play(full)
    both = [("disk_full", True), ("disk_full", False)]
    assert daemons["pg-1.postgres"].told == both
    assert daemons["pg-2.postgres"].told == []


def test_a_disk_stays_full_for_a_process_that_starts_later() -> None:
    made = at("disk-full", "redis-1", lasts=30.0)
    _, machine, _, daemons = play(made, until=21.0)
    machine.exit(machine.containers["redis-1"].process, 1)
    p = machine.exec("redis-1")
    p.data = again = Daemon("master")
    machine.listen(p, True)
    assert again.told == [("disk_full", True)]
    assert daemons["redis-1"].told == [("disk_full", True)]


def test_clock_jump_and_switchover_call_the_daemons() -> None:
    _, _, control, daemons = play(
        at("clock-jump", "host:host-2", args={"by": "-5.0"}), at("switchover", "patroni:leader")
    )
    assert ("clock_jump", -5.0) in daemons["redis-1"].told
    assert ("switchover",) in daemons["pg-1"].told
    assert ("switchover",) not in daemons["pg-2"].told
    assert [s.repair_s for s in control.spans] == [20.0, 20.0]


def test_a_daemon_that_does_not_react_is_an_error() -> None:
    with pytest.raises(InputError, match="'disk-slow' does nothing to redis in this version"):
        play(at("disk-slow", "redis-1", args={"factor": "4.0"}))


def test_bandwidth_bounds_bulk_transfer_in_its_direction_for_its_time() -> None:
    fault = at(
        "bandwidth", between=("host:host-2", "host:host-3"), lasts=10.0, direction="forward",
        args={"rate": "1250000.0"},
    )  # fmt: skip
    _, machine, _, _ = play(fault, until=25.0)
    assert machine.bandwidth_bytes_s("redis-1", "redis-2") == 1250000.0
    assert machine.bandwidth_bytes_s("redis-2", "redis-1") == float("inf")
    _, machine, _, _ = play(fault, until=35.0)
    assert machine.bandwidth_bytes_s("redis-1", "redis-2") == float("inf")


def test_loss_delays_requests_by_the_mean_of_retransmissions() -> None:
    fault = at("loss", between=("host:host-1", "host:host-2"), lasts=10.0, args={"fraction": "0.2"})
    world, machine, _, _ = play(fault, until=35.0)
    late = [c for c in world.commands if c[1] == "set_delay"]
    assert late == [
        (20.0, "set_delay", "gw/s1", pytest.approx(2 * 0.2 / 0.8 * 0.216)),
        (30.0, "set_delay", "gw/s1", 0.0),
    ]
    assert machine.lost("host-1", "host-2") == 0.0


def test_what_can_be_named() -> None:
    made, _ = make_stack()
    made = replace(made, instances=(*made.instances, *NODES))
    rows = dict(list_targets(made))
    assert rows["redis:master"] == "at that moment: redis-1 or redis-2"
    assert rows["postgres:standby[?]"] == "one of them at random"
    assert not [t for t in rows if t.startswith(("etcd", "vip"))]
    for target, text in (
        ("etcd:leader", "nothing of this stack is a 'etcd'"),
        ("redis:king", "'redis' has no role 'king'"),
        ("vip:10.0.0.9", "no keepalived of this stack moves '10.0.0.9'"),
    ):
        chosen, found = resolve(made, target)
        assert chosen is None
        assert text in found[0].message
