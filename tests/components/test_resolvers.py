"""Names at start and at run time, against reference/haproxy.md section 6.1 (measured values)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_world import FakeWorld, make_stack

from hasim.components.haproxy.resolvers import is_name
from hasim.model import Dist, Resolver
from hasim.sim.instances import Machine

DNS = Resolver("docker", ("127.0.0.11",))


def lab(with_resolvers: bool = True, init_addr=("last", "libc", "none"), until: float = 30.0):
    server = {"resolvers": "docker" if with_resolvers else "", "init_addr": init_addr}
    made, edges = make_stack(
        reach="bridge", hosts=1, server=server, resolvers=(DNS,) if with_resolvers else (),
        service={"boot": Dist("const", 0.0)},
    )  # fmt: skip
    world = FakeWorld(made, edges)
    machine = Machine(world)
    for name in ("gw-1", "gw-2", "gw-3", "haproxy"):
        machine.docker.start(name)
    world.run(until)
    return world, machine


def turns(world, after: float):
    return [(t, u) for t, n, u, _ in world.rotations if n == "gw/s1" and t > after]


def test_names_and_addresses() -> None:
    assert is_name("l09-api-gateway-1")
    assert not any(map(is_name, ("10.0.0.11", "::1", "[fe80::1]", "/run/app.sock", "unix@x")))


def test_a_changed_address_is_used_after_about_a_second() -> None:
    world, machine = lab(until=30.04)
    machine.new_address("gw-1")
    machine.network.refresh()
    world.run(34)
    ((moved, _, detail),) = world.events("changed its IP")
    assert moved - 30.04 == pytest.approx(0.96, abs=0.01)  # as measured: asked each second
    assert "docker" in detail
    edge = world.edges()[1]
    assert [what for t, what in world.shown[edge] if t >= 30] == ["silent", "connects"]
    assert turns(world, 30) == []  # it was never DOWN


def test_nxdomain_puts_a_server_into_maintenance_after_hold_nx() -> None:
    world, machine = lab()
    world.spawn(machine.docker.stop("gw-1"), "stop")
    world.run(70)
    ((t, event, _),) = world.events("maintenance")
    assert event == "Server gw/s1 was DOWN and now enters maintenance (DNS NX status)"
    assert 29 <= t - 30 <= 30.1  # measured 30.0
    asked = [t for t, n in world.checks if n == "gw/s1"]
    assert asked[-1] < t  # no checks in MAINT


def test_a_silent_resolver_empties_the_backend() -> None:
    world, machine = lab()
    machine.set_dns("silent")
    world.run(70)
    gone = world.events("is going DOWN for maintenance (DNS timeout status)")
    assert len(gone) == 3
    assert all(30.2 <= t - 30 <= 31.3 for t, _, _ in gone)  # measured 31.2
    assert world.events("backend gw has no server available!")
    assert all(not usable for usable, _ in world.rotation.values())


def test_a_stall_shorter_than_the_hold_time_does_nothing() -> None:
    world, machine = lab()
    machine.set_dns("silent")
    world.run(50)
    machine.set_dns("ok")
    world.run(90)
    assert not world.events("maintenance")


def test_a_name_that_resolves_again_is_up_at_once_without_a_check() -> None:
    world, machine = lab()
    world.spawn(machine.docker.stop("gw-1"), "stop")
    world.run(70)
    machine.containers["gw-1"].service = replace(
        machine.containers["gw-1"].service, boot=Dist("const", 20.0)
    )
    checks = len([1 for _, n in world.checks if n == "gw/s1"])
    machine.docker.start("gw-1")
    world.run(70.25)
    ((t, u),) = turns(world, 70)
    assert u
    assert 0.1 <= t - 70 <= 0.2
    assert world.events("is UP/READY (resolves again)")
    assert len([1 for _, n in world.checks if n == "gw/s1"]) == checks
    world.run(80)  # the app does not listen yet: the next check is fatal, since h = rise
    assert [u for _, u in turns(world, 70)] == [True, False]


def test_without_resolvers_a_recreated_server_is_down_until_reload() -> None:
    """LB-6."""
    world, machine = lab(with_resolvers=False)
    world.spawn(machine.docker.recreate("gw-1"), "recreate")
    world.run(200)
    assert [u for _, u in turns(world, 30)] == [False]
    edge = world.edges()[1]
    assert [what for t, what in world.shown[edge] if t >= 30] == ["refused", "silent", "no route"]
    machine.containers["haproxy"].process.send("SIGHUP")
    world.run(210)
    assert world.shown[edge][-1] == (200.0, "connects")
    assert world.rotation["gw/s1"] == (True, True)


@pytest.mark.parametrize(
    ("init_addr", "starts"), [(("last", "libc"), False), (("last", "libc", "none"), True)]
)
def test_a_name_that_does_not_resolve_at_start(init_addr, starts: bool) -> None:
    """LB-7: refuses to start, or starts with the server in MAINT."""
    world, machine = lab(init_addr=init_addr, until=1.0)
    world.spawn(machine.docker.stop("gw-1"), "stop")
    world.spawn(machine.docker.restart("haproxy"), "restart")
    world.run(2.0)
    if starts:
        assert machine.containers["haproxy"].process.listening
        assert world.rotation["gw/s1"] == (False, False)
        assert world.rotation["gw/s2"] == (True, True)
    else:
        assert world.events("could not resolve address 'gw-1'")
        assert machine.containers["haproxy"].process is None
        assert len(world.events("could not resolve")) >= 3  # Docker tries again and again
        machine.docker.start("gw-1")
        world.run(10.0)
        assert machine.containers["haproxy"].process.listening


def test_a_failed_reload_keeps_the_old_process() -> None:
    world, machine = lab(with_resolvers=False, init_addr=("last", "libc"))
    old = machine.containers["haproxy"].process.data
    world.spawn(machine.docker.stop("gw-1"), "stop")
    world.run(31)
    machine.containers["haproxy"].process.send("SIGHUP")
    world.run(32)
    assert machine.containers["haproxy"].process.data is old
    assert old.alive
