"""The table of design.md section 2, verb x reach: exactly what a peer meets over time."""

from __future__ import annotations

import pytest
from fake_world import FakeWorld, make_stack

from hasim.model import Dist
from hasim.sim.instances import Machine
from hasim.tcp import FIRST_PROBE_S, PROBES_S, REACHABLE_S

GONE = (REACHABLE_S[0] + FIRST_PROBE_S + PROBES_S, REACHABLE_S[1] + FIRST_PROBE_S + PROBES_S)
REACHES = ("bridge", "overlay", "published", "host")
BOOT_S, AT, BACK = 5.0, 100.0, 300.0


def lab(reach: str, link: str = "l2", **instance):
    made, edges = make_stack(
        reach=reach, hosts=1 if reach == "bridge" else 4, link=link, instance=instance,
        service={"boot": Dist("const", BOOT_S)},
    )  # fmt: skip
    world = FakeWorld(made, edges)
    machine = Machine(world)
    for name in ("gw-1", "gw-2", "gw-3", "haproxy"):
        machine.docker.start(name)
    world.run(AT)
    return world, machine


def strike(world, machine, verb: str) -> None:
    docker, name = machine.docker, "gw-1"
    if verb == "stop":
        world.spawn(docker.stop(name), verb)
    elif verb == "crash":
        machine.exit(machine.containers[name].process, 1)
    elif verb == "docker-kill":
        docker.kill(name)
    elif verb == "kill-process":
        machine.kill_child(name)
    elif verb == "power-off":
        machine.power_off(machine.containers[name].spec.host)
    elif verb == "blackhole":
        machine.network.blackhole(name, True)
    elif verb == "pause":
        machine.freeze(name)
    elif verb == "partition":
        machine.network.cut(["host-1"], ["host-2"])
    elif verb == "recreate":
        world.spawn(docker.recreate(name), verb)


def met(world, index: int = 1) -> list[tuple[float, str]]:
    return [(round(t - AT, 6), w) for t, w in world.shown[world.edges()[index]] if t >= AT]


def expected(verb: str, reach: str, policy: str) -> list:
    """Rows (time or range after the fault, what a connect meets); None: any time."""
    own = reach in ("bridge", "overlay")
    closes = [(0.0, "refused")]  # SIGTERM: the listener first, then the idle process ends
    if verb == "stop":
        return [*closes, (0.0, "silent"), (GONE, "no route")] if own else closes
    if verb == "docker-kill" or (verb == "crash" and policy == "no"):
        return [(0.0, "silent"), (GONE, "no route")] if own else closes
    if verb == "crash":  # 100 ms, then refused until the app listens
        back = [(0.1, "refused")] if own else []
        return [(0.0, "silent" if own else "refused"), *back, (0.1 + BOOT_S, "connects")]
    if verb == "kill-process":
        return [(0.0, "refused"), (BOOT_S, "connects")]
    if verb == "power-off":
        return [(0.0, "silent"), (GONE, "no route")]
    if verb in ("blackhole", "partition"):
        return [(0.0, "silent")]
    if verb == "recreate":  # 1 s to create it; the balancer still uses the old address
        if own:
            return [*closes, (0.0, "silent"), (GONE, "no route")]
        return [*closes, (1.0 + BOOT_S, "connects")]
    return []  # pause: the kernel accepts


VERBS = ("stop", "crash", "docker-kill", "kill-process", "power-off", "blackhole", "pause",
         "partition", "recreate")  # fmt: skip


@pytest.mark.parametrize("policy", ["no", "always"])
@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("verb", VERBS)
def test_what_a_peer_meets(verb: str, reach: str, policy: str) -> None:
    if reach == "bridge" and verb in ("power-off", "partition"):
        pytest.skip("both ends are on one host")
    world, machine = lab(reach, restart=policy)
    strike(world, machine, verb)
    world.run(BACK)
    rows, wanted = met(world), expected(verb, reach, policy)
    assert [w for _, w in rows] == [w for _, w in wanted]
    for (t, _), (when, _) in zip(rows, wanted, strict=True):
        if isinstance(when, tuple):
            assert when[0] <= t <= when[1]
        else:
            assert t == when
    assert all(not met(world, i) for i in (2, 3))  # only affected edges are told


@pytest.mark.parametrize("reach", ["overlay", "published", "host"])
def test_a_routed_host_without_power_is_silent_for_ever(reach: str) -> None:
    world, machine = lab(reach, link="routed")
    strike(world, machine, "power-off")
    world.run(BACK)
    assert met(world) == [(0.0, "silent")]


def test_users_from_outside_come_by_a_router() -> None:
    world, machine = lab("published")
    machine.power_off("host-1")
    world.run(BACK)
    assert met(world, 0) == [(0.0, "silent")]


def test_an_address_that_was_never_heard_of_has_no_route_at_once() -> None:
    made, edges = make_stack(reach="bridge", hosts=1)
    world = FakeWorld(made, edges)
    Machine(world)
    assert world.shown[edges[1]] == [(0.0, "no route")]


def test_an_address_that_returns_in_time_never_shows_no_route() -> None:
    world, machine = lab("bridge")
    machine.docker.kill("gw-1")
    world.run(AT + 10)
    machine.docker.start("gw-1")
    world.run(BACK)
    assert met(world) == [(0.0, "silent"), (10.0, "refused"), (15.0, "connects")]


def test_connections_die_before_the_address_and_silence_comes_before_the_host() -> None:
    order: list[str] = []
    for verb in ("crash", "power-off"):
        world, machine = lab("overlay")
        crash, connect = world.crash, world.set_connect
        world.crash = lambda i, c=crash: (order.append("crash"), c(i))[1]
        world.set_connect = lambda e, o, c=connect: (order.append("edge"), c(e, o))[1]
        order.clear()
        strike(world, machine, verb)
        assert order[0] == ("crash" if verb == "crash" else "edge"), verb


def test_overlapping_causes_end_one_by_one() -> None:
    world, machine = lab("published")
    network = machine.network
    network.blackhole("gw-1", True)
    network.blackhole("host-2", True)
    cut = network.cut(["host-1"], ["host-2"])
    world.run(AT + 1)
    network.blackhole("gw-1", False)
    network.heal(cut)
    assert met(world) == [(0.0, "silent")]
    network.blackhole("host-2", False)
    assert met(world) == [(0.0, "silent"), (1.0, "connects")]


def test_a_blackholed_balancer_reaches_nobody_and_a_blackholed_host_still_talks_inside() -> None:
    world, machine = lab("published")
    machine.network.blackhole("haproxy", True)
    assert [met(world, i) for i in range(4)] == [[(0.0, "silent")]] * 4
    world, machine = lab("bridge")
    machine.network.blackhole("host-1", True)
    assert met(world, 0) == [(0.0, "silent")]
    assert met(world, 1) == []


def test_both_edges_of_one_pair_of_ends_agree_on_the_neighbour_entry() -> None:
    from dataclasses import replace

    made, edges = make_stack(reach="bridge", hosts=1)
    twin = replace(edges[1], source="haproxy/other", server="other/s1")
    world = FakeWorld(made, [*edges, twin])
    machine = Machine(world)
    machine.docker.start("gw-1")
    world.run(50)
    machine.docker.kill("gw-1")
    world.run(200)
    assert world.shown[twin] == world.shown[edges[1]]
