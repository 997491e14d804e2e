"""Restart policies, stop, health status and host boot as Docker's manual has them."""

from __future__ import annotations

import pytest
from fake_world import FakeWorld, make_stack

from hasim.components.base import components
from hasim.components.docker import stop_signal
from hasim.model import Dist, HealthCheck, Instance
from hasim.sim.instances import Machine, quantile
from hasim.source import Span

PROBE = HealthCheck(("CMD", "wget", "http://127.0.0.1:8009/health/live"), 5.0, 2.0, 3, 12.0)


def lab(boot_s: float = 1.0, until: float = 0.0, **instance):
    service = instance.pop("service", {})
    made, edges = make_stack(instance=instance, service={"boot": Dist("const", boot_s), **service})
    world = FakeWorld(made, edges)
    machine = Machine(world)
    machine.docker.start("gw-1")
    if until:
        world.run(until)
    return world, machine


def starts(world) -> list[float]:
    return [t for t, _, d in world.events("container start") if d == "gw-1"]


def test_every_kind_is_found_by_scanning_the_folder() -> None:
    assert {"docker", "haproxy", "service"} <= set(components())


@pytest.mark.parametrize("policy", ["always", "unless-stopped", "on-failure"])
def test_back_off_doubles_up_to_a_minute(policy: str) -> None:
    world, machine = lab(until=1.5, restart=policy)
    machine.containers["gw-1"].image = "never-starts"
    machine.exit(machine.containers["gw-1"].process, 1)
    world.run(400)
    begun = starts(world)[1:]
    gaps = [round(b - a, 3) for a, b in zip(begun, begun[1:], strict=False)]
    assert gaps == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0, 60.0, 60.0]
    assert begun[0] == 1.6


def test_ten_seconds_up_reset_the_back_off() -> None:
    world, machine = lab(restart="always")
    for t in (2.0, 5.0, 20.0):  # ran 2 s, 2.9 s, 14.8 s
        world.run(t)
        machine.exit(machine.containers["gw-1"].process, 1)
    world.run(30)
    assert starts(world) == [0.0, 2.1, 5.2, 20.1]


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [("no", 1, 0), ("always", 0, 1), ("unless-stopped", 0, 1), ("on-failure", 0, 0),
     ("on-failure", 1, 1), ("on-failure:2", 1, 1)],
)  # fmt: skip
def test_policy_by_exit_code(policy: str, code: int, again: int) -> None:
    world, machine = lab(until=2.0, restart=policy)
    machine.exit(machine.containers["gw-1"].process, code)
    world.run(5)
    assert len(starts(world)) == 1 + again


def test_on_failure_gives_up_after_its_limit() -> None:
    world, machine = lab(until=1.5, restart="on-failure:3")
    machine.containers["gw-1"].image = "never-starts"
    machine.exit(machine.containers["gw-1"].process, 1)
    world.run(100)
    assert len(starts(world)) == 1 + 3


def test_stop_is_not_undone_by_any_policy_and_start_ends_that() -> None:
    world, machine = lab(until=2.0, restart="always")
    world.spawn(machine.docker.stop("gw-1"), "stop")
    world.run(20)
    assert len(starts(world)) == 1
    machine.docker.start("gw-1")
    world.run(25)
    machine.exit(machine.containers["gw-1"].process, 0)
    world.run(30)
    assert len(starts(world)) == 3


@pytest.mark.parametrize(("signal", "end"), [("SIGKILL", 2.0), ("SIGTERM", 12.0)])
def test_grace_and_sigkill(signal: str, end: float) -> None:
    world, machine = lab(until=2.0, stop_signal=signal, service={"on_sigterm": "ignore"})
    world.spawn(machine.docker.stop("gw-1"), "stop")
    world.run(30)
    ((t, _, detail),) = world.events("container die")
    assert (t, detail) == (end, "gw-1 (exitCode=137)")


@pytest.mark.parametrize(
    ("image", "stated", "sent"),
    [("haproxy:2.8-alpine", None, "SIGUSR1"), ("registry/team/nginx", None, "SIGQUIT"),
     ("app:1", None, "SIGTERM"), ("haproxy:2.8", "SIGTERM", "SIGTERM"),
     ("haproxy:2.8", "SIGINT", "SIGINT"), ("hub:5000/haproxy@sha256:0f1e", None, "SIGUSR1")],
)  # fmt: skip
def test_the_stop_signal_is_the_files_or_the_images(image, stated, sent) -> None:
    where = {"stop_signal": Span("compose.yml", 1, 1)} if stated else {}
    spec = Instance("x", "service", "h", image=image, stop_signal=stated or "SIGTERM", where=where)
    assert stop_signal(spec) == sent


def test_a_paused_process_takes_sigterm_only_when_it_runs_again() -> None:
    world, machine = lab(until=2.0)
    machine.freeze("gw-1")
    world.spawn(machine.docker.stop("gw-1", 30.0), "stop")
    world.run(8.0)
    assert machine.containers["gw-1"].process.alive
    machine.thaw("gw-1")
    world.run(9.0)
    assert world.events("container die")[0][0] == 8.0


def test_sigterm_during_boot_ends_the_process_at_once() -> None:
    world, machine = lab(boot_s=20.0, until=2.0)
    world.spawn(machine.docker.stop("gw-1"), "stop")
    world.run(30)
    assert world.events("container die")[0][0] == 2.0


def test_health_status_by_interval_retries_and_start_period() -> None:
    world, machine = lab(boot_s=8.0, healthcheck=PROBE)
    world.run(9)
    assert machine.containers["gw-1"].health == "starting"
    world.run(16)
    machine.set_unhealthy("gw-1", "/health/live", 503)
    world.run(40)
    said = [(t, e.split(": ")[1]) for t, e, _ in world.events("health_status")]
    assert said == [(10.0, "healthy"), (30.0, "unhealthy")]  # probes at 20, 25, 30 fail
    assert len(starts(world)) == 1  # Docker restarts nothing for it


def test_failures_count_after_the_start_period() -> None:
    world, machine = lab(boot_s=100.0, healthcheck=PROBE, until=50.0)
    assert [t for t, _, _ in world.events("unhealthy")] == [25.0]  # 5, 10 free; 15, 20, 25 count


def test_health_looks_at_its_own_url_only() -> None:
    world, machine = lab(healthcheck=PROBE, until=6.0)
    machine.set_unhealthy("gw-1", "/health/ready", 503)
    world.run(60)
    assert machine.containers["gw-1"].health == "healthy"


def test_oom_takes_pid_1_or_a_worker() -> None:
    world, machine = lab(until=2.0, restart="always")
    world.on_oom("gw-1")
    world.run(20)
    assert world.events("container die")[0][2] == "gw-1 (exitCode=137)"
    assert len(starts(world)) == 2
    world, machine = lab(until=2.0, service={"workers": 4})
    world.on_oom("gw-1")
    world.run(20)
    assert not world.events("container die")
    assert machine.containers["gw-1"].process.listening


def test_host_boot_starts_by_policy() -> None:
    for policy, hand, expected in (
        ("no", False, 1), ("always", False, 2), ("always", True, 2),
        ("unless-stopped", False, 2), ("unless-stopped", True, 1), ("on-failure", False, 1),
    ):  # fmt: skip
        world, machine = lab(until=2.0, restart=policy)
        machine.containers["gw-1"].stopped_by_hand = hand
        machine.power_off("host-2")
        world.run(10)
        assert machine.docker.start("gw-1") is None  # no power
        machine.power_on("host-2")
        machine.containers["gw-1"].stopped_by_hand = hand
        machine.docker.boot_host("host-2")
        world.run(20)
        assert len(starts(world)) == expected, (policy, hand)


@pytest.mark.parametrize(
    ("dist", "u", "value"),
    [(Dist("const", 3.0), 0.9, 3.0), (Dist("uniform", 1.0, 3.0), 0.25, 1.5),
     (Dist("exp", 2.0), 0.0, 0.0), (Dist("lognormal", 90.0, 0.4), 0.5, 90.0),
     (Dist("quantiles", table=((0.0, 1.0), (0.5, 2.0), (1.0, 10.0))), 0.75, 6.0)],
)  # fmt: skip
def test_quantiles(dist: Dist, u: float, value: float) -> None:
    assert quantile(dist, u) == pytest.approx(value)
