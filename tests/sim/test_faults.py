"""Verbs, moments, repairs: what happens to containers, edges and the timeline."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_world import FakeWorld, make_stack

from hasim.errors import InputError
from hasim.model import Dist, HealthCheck
from hasim.scenario import Fault, When
from hasim.sim.faults import Faults
from hasim.sim.instances import Machine
from hasim.sim.up import boot

LATER = 10**15  # ns: while booting the load starts some day, so that boot times are negative


def at(s: float) -> When:
    return When(Dist("const", s))


def fault(do: str, target: str = "gw-1", when: float = 20.0, lasts: float | None = None, **more):
    return Fault(do, target, at(when), None if lasts is None else Dist("const", lasts), **more)


def resolver(machine):
    def resolve(target: str):
        if target.startswith("host:"):
            return [("host", h) for h in target[5:].split(",")]
        if target == "gateway[*]":
            return [("instance", n) for n in sorted(machine.containers) if n.startswith("gw")]
        if "/" in target:
            return [("server", target)]
        return [("balancer" if target == "haproxy" else "instance", target)]

    return resolve


def play(*faults: Fault, until: float = 120.0, seed: int = 1, phases=None, **stack):
    """Boot, load from then on, faults; returns (world, machine, faults)."""
    made, edges = make_stack(**stack)
    world = FakeWorld(made, edges, phases, seed)
    world.start_ns = LATER
    world.scenario = replace(world.scenario, faults=tuple(faults))
    machine = Machine(world)
    world.env.run(until=boot(world, machine))
    world.start_ns = int(world.env.now)
    control = Faults(world, machine, resolver(machine))
    control.start()
    world.run(until)
    return world, machine, control


def path(world, index: int) -> list[tuple[float, str]]:
    """What a connect over an edge met from the start of the load on; index 0 is the users'."""
    return [row for row in world.shown[world.edges()[index]] if row[0] >= 0]


def test_stop_sends_the_signal_waits_and_repair_starts_again() -> None:
    world, machine, control = play(fault("stop", lasts=30.0))
    assert path(world, 1) == [(20.0, "refused"), (55.0, "connects")]
    assert machine.containers["gw-1"].process is not None
    (span,) = control.spans
    assert (span.do, span.start_s, span.repair_s) == ("stop", 20.0, 50.0)
    assert world.segments == [20.0, 50.0]


def test_stop_of_a_deaf_process_ends_with_sigkill_after_the_grace() -> None:
    world, _, _ = play(fault("stop", args={"grace": "3.0"}), service={"on_sigterm": "ignore"})
    assert path(world, 1) == [(23.0, "refused")]
    assert "SIGKILL after 3s" in world.events("container kill")[-1][2]


@pytest.mark.parametrize("listener", ["close", "keep"])
@pytest.mark.parametrize("in_flight", ["finish", "cut"])
def test_on_sigterm_drain(listener: str, in_flight: str) -> None:
    made, edges = make_stack(
        service={"on_sigterm_listener": listener, "on_sigterm_in_flight": in_flight}
    )
    world = FakeWorld(made, edges)
    world.start_ns = LATER
    machine = Machine(world)
    world.env.run(until=boot(world, machine))
    world.start_ns = int(world.env.now)
    world.inflights["gw-1"] = 3
    world.spawn(machine.docker.stop("gw-1"), "stop")
    world.run(2.0)
    refused_at_once = listener == "close" or in_flight == "cut"
    assert (path(world, 1) == [(0.0, "refused")]) == refused_at_once
    assert (machine.containers["gw-1"].process is None) == (in_flight == "cut")
    world.finish_requests("gw-1")
    world.run(3.0)
    assert machine.containers["gw-1"].process is None
    assert path(world, 1)[-1][1] == "refused"
    assert any(c[1:] == ("close_idle", "gw-1") for c in world.commands)


@pytest.mark.parametrize(
    ("policy", "restarts"),
    [("no", 0), ("always", 1), ("unless-stopped", 1), ("on-failure", 1), ("on-failure:0", 0)],
)
@pytest.mark.parametrize("verb", ["crash", "docker-kill"])
def test_the_restart_policy_applies_to_a_crash_and_not_to_docker_kill(verb, policy, restarts):
    world, _, _ = play(fault(verb), instance={"restart": policy})
    back = [(25.1, "connects")] if verb == "crash" and restarts else []
    assert path(world, 1) == [(20.0, "refused"), *back]


def test_a_crash_without_policy_is_mended_by_its_repair() -> None:
    world, _, _ = play(fault("crash", lasts=10.0))
    assert path(world, 1) == [(20.0, "refused"), (35.0, "connects")]


def test_kill_process_is_refused_until_the_supervisor_has_booted_it_again() -> None:
    world, _, _ = play(fault("kill-process"), reach="bridge", hosts=1)
    assert path(world, 1) == [(20.0, "refused"), (25.0, "connects")]
    assert not world.events("container die")


def test_power_off_is_silent_then_no_route_then_docker_starts_by_policy() -> None:
    world, machine, control = play(
        fault("power-off", "host:host-2", lasts=60.0), until=200.0, instance={"restart": "always"}
    )
    seen = path(world, 1)
    assert [what for _, what in seen] == ["silent", "no route", "refused", "connects"]
    assert seen[0][0] == 20.0
    assert 20 + 23 <= seen[1][0] <= 20 + 53
    assert [t for t, _ in seen[2:]] == [125.0, 130.0]  # boot of the host 45 s, of the app 5 s
    assert control.spans[0].repair_s == 80.0
    # nobody heard a FIN: the edge was silent before the process went
    assert (20.0, "crash", "gw-1") in world.commands


def test_power_off_of_a_routed_host_stays_silent() -> None:
    world, _, _ = play(fault("power-off", "host:host-2"), link="routed")
    assert path(world, 1) == [(20.0, "silent")]


def test_power_off_leaves_a_container_down_that_was_stopped_by_hand() -> None:
    world, machine, _ = play(
        fault("stop", "gw-1", 10.0), fault("power-off", "host:host-2", lasts=10.0),
        until=200.0, instance={"restart": "unless-stopped"},
    )  # fmt: skip
    assert machine.containers["gw-1"].process is None


def test_pause_freezes_and_thaws_the_same_process() -> None:
    world, _, _ = play(fault("pause", lasts=30.0))
    held = [c for c in world.commands if c[1] in ("freeze", "thaw") and c[0] >= 0]
    assert held == [(20.0, "freeze", "gw-1"), (50.0, "thaw", "gw-1")]
    assert path(world, 1) == []  # the kernel accepts all the time


def test_a_paused_process_that_was_killed_is_not_thawed_again() -> None:
    world, machine, _ = play(
        fault("pause", lasts=30.0), fault("crash", when=25.0), instance={"restart": "always"}
    )
    assert not machine.containers["gw-1"].process.frozen
    assert [c[0] for c in world.commands if c[1] == "thaw"] == [25.0]


def test_blackhole_keeps_the_process_alive() -> None:
    world, machine, _ = play(fault("blackhole", lasts=30.0))
    assert path(world, 1) == [(20.0, "silent"), (50.0, "connects")]
    assert machine.containers["gw-1"].process.alive
    assert not [c for c in world.commands if c[1] == "crash" and c[0] >= 0]


@pytest.mark.parametrize("direction", ["both", "forward", "backward"])
def test_partition_cuts_only_edges_across(direction: str) -> None:
    world, _, _ = play(
        Fault(
            "partition",
            "",
            at(20),
            Dist("const", 30.0),
            direction=direction,
            between=("host:host-1", "host:host-2,host-3"),
        )
    )
    for i in (1, 2):
        assert path(world, i) == [(20.0, "silent"), (50.0, "connects")]
    assert path(world, 3) == []
    assert path(world, 0) == []  # users come from outside


@pytest.mark.parametrize(("direction", "extra"), [("both", 0.4), ("forward", 0.2)])
def test_delay_adds_to_the_round_trip_and_takes_it_back(direction: str, extra: float) -> None:
    world, _, _ = play(
        Fault(
            "delay",
            "",
            at(20),
            Dist("const", 30.0),
            args={"latency": "0.2"},
            direction=direction,
            between=("host:host-1", "host:host-2"),
        )
    )
    late = [c for c in world.commands if c[1] == "set_delay"]
    assert late == [(20.0, "set_delay", "gw/s1", extra), (50.0, "set_delay", "gw/s1", 0.0)]


def test_slow_divides_the_speed_and_overlaps_multiply() -> None:
    args = {"cpu": "4.0"}
    world, _, _ = play(fault("slow", lasts=30.0, args=args), fault("slow", when=30, args=args))
    speeds = [(c[0], c[3]) for c in world.commands if c[1] == "set_speed"]
    assert speeds == [(20.0, 0.25), (30.0, 0.0625), (50.0, 0.25)]


def test_a_repair_waits_for_a_stop_that_is_still_under_way() -> None:
    world, machine, _ = play(
        fault("stop", lasts=5.0, args={"grace": "20.0"}), service={"on_sigterm": "ignore"}
    )
    assert path(world, 1) == [(40.0, "refused"), (45.0, "connects")]


@pytest.mark.parametrize(
    "wrong",
    [Fault("levitate", "gw-1", at(1)), fault("unhealthy", args={"url": "nowhere"}),
     fault("slow", "haproxy", args={"cpu": "2.0"})],
)  # fmt: skip
def test_a_fault_that_would_do_nothing_is_an_error(wrong: Fault) -> None:
    with pytest.raises(InputError):
        play(wrong)


def test_unhealthy_fails_only_the_named_url() -> None:
    world, _, _ = play(fault("unhealthy", lasts=30.0, args={"url": "ready", "status": "500"}))
    told = [c[:1] + c[3:] for c in world.commands if c[1] == "set_health"]
    assert told == [(20.0, "/health/ready", 500), (50.0, "/health/ready", 0)]


def test_recreate_gives_a_new_address_and_published_ports_do_not_care() -> None:
    world, machine, control = play(fault("recreate"))
    assert path(world, 1) == [(20.0, "refused"), (26.0, "connects")]
    assert machine.containers["gw-1"].address == 1
    assert control.spans[0].repair_s == 21.0


def test_random_target_is_one_member_and_depends_on_the_seed() -> None:
    struck = set()
    for seed in range(12):
        world, _, _ = play(fault("blackhole", "gateway[?]"), until=21.0, seed=seed)
        (row,) = [r for r in world.rows if r[4] == "blackhole"]
        struck.add(row[5])
    assert struck == {"gw-1", "gw-2", "gw-3"}


def test_a_server_line_stands_for_its_instance_and_a_host_for_all_of_its_containers() -> None:
    world, _, _ = play(fault("blackhole", "gw/s2"), fault("crash", "host:host-4"))
    assert path(world, 2)[0] == (20.0, "silent")
    assert path(world, 3)[0] == (20.0, "refused")


def test_repeat_and_uniform_moments() -> None:
    world, _, control = play(
        Fault(
            "pause",
            "gw-1",
            When(Dist("uniform", 10.0, 20.0)),
            Dist("const", 2.0),
            repeat_times=3,
            repeat_every_s=20.0,
        )
    )
    starts = [s.start_s for s in control.spans]
    assert 10 <= starts[0] <= 20
    assert [round(b - a, 6) for a, b in zip(starts, starts[1:], strict=False)] == [20.0, 20.0]
    assert all(round(s.repair_s - s.start_s, 6) == 2.0 for s in control.spans)


def test_a_fault_after_an_event() -> None:
    world, _, control = play(
        fault("crash", "gw-1", 20.0),
        Fault("blackhole", "gw-2", When(Dist("const", 0.5), "gw/s1 is DOWN")),
    )
    down = world.events("gw/s1 is DOWN")[-1][0]
    assert control.spans[1].start_s == pytest.approx(down + 0.5)


def test_the_chain_of_causes_leads_from_up_to_the_repair_and_from_down_to_the_fault() -> None:
    world, _, control = play(fault("crash", lasts=20.0))

    def root_of(text: str) -> list[str]:
        row = [r for r in world.rows if text in r[4] and r[2] > 0][-1]
        chain = [row[4]]
        while row[1] >= 0:
            row = world.rows[row[1]]
            chain.append(row[4])
        return chain

    assert root_of("gw/s1 is DOWN")[-1] == "crash"
    assert "Health check for server gw/s1 failed" in root_of("gw/s1 is DOWN")
    assert "crash repaired" in root_of("gw/s1 is UP")


def test_reload_brings_dead_servers_back_until_their_first_check() -> None:
    world, _, _ = play(fault("crash", "gw-3", 20.0), fault("reload", "haproxy", 60.0))
    turns = [(t, usable) for t, name, usable, _ in world.rotations if name == "gw/s3" and t > 0]
    assert [u for _, u in turns] == [False, True, False]
    assert turns[1][0] == 60.0
    assert turns[2][0] == pytest.approx(60.0 + 2.0 * 2 / 3, abs=0.01)  # I * (n-1)/n


def test_a_balancer_that_is_killed_comes_back_with_all_servers_up() -> None:
    world, _, _ = play(fault("crash", "haproxy"))
    assert path(world, 0) == [(20.0, "refused"), (20.1, "connects")]
    again = [(t, n) for t, n, usable, _ in world.rotations if t == 20.1 and usable]
    assert len(again) == 3


def test_never_healthy_images_go_through_the_script_of_the_guide_unnoticed() -> None:
    """RU-1: grep finds healthy in unhealthy; RU-2: it goes on."""
    check = HealthCheck(("CMD", "wget", "http://127.0.0.1:8009/health/live"), 5.0, 2.0, 3)
    world, _, control = play(
        Fault(
            "rolling-update",
            "gateway[*]",
            at(10.0),
            args={"via": "script", "image": "never-healthy"},
        ),
        until=300.0,
        instance={"healthcheck": check},
    )
    assert [d for _, _, d in world.events("is healthy")] == ["gw-1", "gw-2", "gw-3"]
    assert world.events("Rolling update complete")
    assert control.spans[0].repair_s == world.events("rolling-update finished")[0][0]


def test_without_a_healthcheck_the_script_waits_sixty_seconds_for_nothing() -> None:
    world, _, _ = play(
        Fault("rolling-update", "gw-1", at(10.0), args={"via": "script"}), until=300.0
    )
    (done,) = world.events("Rolling update complete")
    assert done[0] == 10.0 + 1.0 + 60.0 + 5.0  # re-create, 30 x 2 s, pause


def test_a_serial_update_waits_for_haproxy_and_rolls_back_a_bad_image() -> None:
    args = {"via": "serial", "drain": "true", "wait": "haproxy-up", "on_timeout": "rollback"}
    bad = {**args, "image": "never-starts"}
    kind = {"inter_s": 1.0, "fastinter_s": 0.5, "downinter_s": 1.0, "fall": 2}
    world, machine, _ = play(
        Fault("rolling-update", "gateway[*]", at(10.0), args=args), until=300.0, check=kind
    )
    assert len(world.events("is healthy")) == 3
    downs = [t for t, name, usable, _ in world.rotations if t > 0 and not usable]
    ups = [t for t, name, usable, _ in world.rotations if t > 0 and usable]
    assert len({round(t) for t in downs}) >= 3
    assert ups
    world, machine, _ = play(
        Fault("rolling-update", "gateway[*]", at(10.0), args=bad), until=300.0, check=kind
    )
    assert len(world.events("Updating")) == 1
    assert world.events("rolling back")
    assert all(c.process is not None for c in machine.containers.values())


def test_boot_failures_stay_down_and_say_where() -> None:
    from hasim.model import BootFailure
    from hasim.source import Span

    made, edges = make_stack()
    why = BootFailure("gw-2", "port 8009 is taken", Span("compose.yml", 7, 3))
    world = FakeWorld(replace(made, boot_failures=(why,)), edges)
    machine = Machine(world)
    world.env.run(until=boot(world, machine))
    assert world.events("did not boot")[0][2] == "port 8009 is taken"
    assert machine.containers["gw-2"].process is None
    assert machine.docker.start("gw-2") is None
    assert world.rotation["gw/s2"] == (False, False)
    assert world.rotation["gw/s1"] == (True, True)


def test_boot_honours_depends_on() -> None:
    made, edges = make_stack(instance={"healthcheck": HealthCheck(("CMD", "x"), 3.0, 1.0, 3)})
    waits = replace(made.instances[0], depends_on=(("gw-1", "service_healthy"),))
    world = FakeWorld(replace(made, instances=(waits, *made.instances[1:])), edges)
    machine = Machine(world)
    world.env.run(until=boot(world, machine))
    starts = {d: t for t, _, d in world.events("container start")}
    assert starts["gw-1"] == 0.0
    assert 6.0 <= starts["haproxy"] <= 7.0  # healthy at the second probe, compose polls


def test_same_seed_same_rows() -> None:
    rows = [play(fault("crash", "gateway[?]"), seed=5)[0].rows for _ in range(2)]
    assert rows[0] == rows[1]
