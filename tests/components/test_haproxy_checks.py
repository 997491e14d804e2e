"""Schedule, deadlines, counters and consequences of health checks against reference/haproxy.md."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_world import FakeWorld, check_of, make_stack

from hasim.components.haproxy.checks import enforces_check_timeout, first_checks, plan_of
from hasim.model import Backend, Balancer, Server
from hasim.sim.instances import Machine

NS = 10**9
LATER = 10**15  # ns: until the load starts, all recorded times are negative
BOOT = {"service": {"boot": replace(make_stack()[0].services[0].boot, a=0.0)}}


class Lab:
    """One HAProxy and its gateways, up for a while before the load starts at `at` seconds."""

    def __init__(self, at: float = 40.0, seed: int = 1, phases: dict | None = None, **stack):
        servers = stack.pop("servers", None)
        made, edges = make_stack(**{**BOOT, **stack})
        if servers:
            back = replace(made.balancers[0].backends[0], servers=servers)
            made = replace(made, balancers=(replace(made.balancers[0], backends=(back,)),))
        self.world = FakeWorld(made, edges, phases, seed)
        self.world.start_ns = LATER
        self.machine = Machine(self.world)
        for name in reversed(list(self.machine.containers)):
            self.machine.docker.start(name)
        self.world.env.run(until=round(at * NS))
        self.world.start_ns = int(self.world.env.now)
        self.machine.load_started()

    def fault(self, kind: str, when: float, repair: float | None = None) -> None:
        """rst | drop | stop | h503 | slow on gw-1, as the measured trials name them."""
        self.world.run(when)
        self._turn(kind, True)
        if repair is not None:
            self.world.run(repair)
            self._turn(kind, False)

    def _turn(self, kind: str, on: bool) -> None:
        world, machine = self.world, self.machine
        p = machine.containers["gw-1"].process
        if kind == "rst":
            machine.listen(p, not on)
        elif kind == "drop":
            machine.network.blackhole("gw-1", on)
        elif kind == "stop":
            (machine.freeze if on else machine.thaw)("gw-1")
        elif kind == "h503":
            world.responses["gw-1"] = (503 if on else 200, 0.001)
        elif kind == "slow":
            world.responses["gw-1"] = (200, 2.5 if on else 0.001)

    def when(self, usable: bool, server: str = "gw/s1", after: float = 0.0) -> float:
        rows = self.world.rotations
        return next(t for t, n, u, _ in rows if n == server and u == usable and t > after)


def balancer(*inters_s: float, version=(2, 6, 12), spread=0.0, cap=float("inf")) -> Balancer:
    servers = tuple(
        Server(f"s{i}", "10.0.0.1", 80, "", "host", check_of(inter_s=x, spread_checks=spread))
        for i, x in enumerate(inters_s)
    )
    half = len(servers) // 2
    backends = (Backend("a", "http", "roundrobin", servers[:half]),
                Backend("b", "http", "roundrobin", servers[half:]))  # fmt: skip
    return Balancer("haproxy", version, 4096, (), backends, max_spread_checks_s=cap)


def starts(b: Balancer, spread=()) -> list[int]:
    return [t for _, _, t in first_checks(b, spread)]


def test_first_checks_spread_over_all_proxies() -> None:
    assert starts(balancer(2.0, 2.0, 2.0)) == [0, 666, 1333]
    assert starts(balancer(2.0, 2.0, 2.0, 2.0)) == [0, 500, 1000, 1500]


def test_short_intervals_do_not_lower_the_spread_of_others() -> None:
    assert starts(balancer(0.5, 2.0)) == [0, 1000]
    assert starts(balancer(2.0, 0.5)) == [0, 1000]  # max(mininter, own)
    assert starts(balancer(0.5, 0.5)) == [0, 250]
    assert starts(balancer(1.0, 4.0)) == [0, 2000]


def test_max_spread_checks_caps_and_spread_checks_moves_from_2_8() -> None:
    assert starts(balancer(10.0, 10.0, cap=2.0)) == [0, 1000]
    assert starts(balancer(2.0, 2.0, spread=0.5), (0.0, 0.0)) == [0, 1000]
    assert starts(balancer(2.0, 2.0, spread=0.5, version=(2, 8, 3)), (0.0, 0.0)) == [0, 500]


def test_servers_without_check_take_no_place() -> None:
    b = balancer(2.0, 2.0)
    bare = Server("x", "10.0.0.2", 80, "", "host", None)
    b = replace(b, backends=(replace(b.backends[0], servers=(bare,)), b.backends[1]))
    assert starts(b) == [0]


@pytest.mark.parametrize(
    ("version", "fixed"),
    [((2, 6, 12), False), ((2, 8, 15), False), ((2, 8, 16), True), ((3, 2, 0), False),
     ((3, 2, 1), True), ((3, 3, 0), True), ((2, 9, 9), False), ((3, 4, 0), True)],
)  # fmt: skip
def test_releases_that_enforce_timeout_check(version, fixed) -> None:
    assert enforces_check_timeout(version) is fixed


def test_deadlines() -> None:
    plain = plan_of(check_of(fastinter_s=0.5), 7 * NS, (2, 6, 12), 0.5)
    late = NS // 1000  # deadlines are acted on about 1 ms later
    assert (plain.connect_by, plain.answer_by) == (9 * NS + late, 9 * NS + late)
    assert plain.answer_within == 0
    timed = check_of(timeout_check_s=0.5, timeout_connect_s=1.0)
    fixed = plan_of(timed, 7 * NS, (2, 8, 16), 0.5)
    assert (fixed.connect_by, fixed.answer_by) == (8 * NS + late, 0)
    assert fixed.answer_within == NS // 2 + late
    for u in (0.0, 0.5, 0.999):
        bound = plan_of(timed, 7 * NS, (2, 6, 12), u)
        assert NS // 2 <= bound.answer_within - late <= NS  # somewhere in [Tk, min(I, Tc)]
    long = check_of(timeout_check_s=3.0, timeout_connect_s=1.0)
    assert plan_of(long, 0, (2, 6, 12), 0.5).answer_within == 3 * NS + late


@pytest.mark.parametrize("seed", range(4))
def test_intervals_run_from_end_to_start_with_a_drift(seed: int) -> None:
    lab = Lab(seed=seed)
    lab.world.run(60)
    begun = [t for t, name in lab.world.checks if name == "gw/s1" and t > 0]
    gaps = {round(b - a, 6) for a, b in zip(begun, begun[1:], strict=False)}
    assert all(2.002 <= gap <= 2.0036 for gap in gaps)  # 2 s, 1 ms of check, the drift
    assert len(gaps) > 1


def test_a_slow_answer_stretches_the_schedule() -> None:
    lab = Lab()
    lab.world.responses["gw-1"] = (200, 1.5)
    lab.world.run(60)
    begun = [t for t, name in lab.world.checks if name == "gw/s1" and t > 0]
    assert begun[-1] - begun[-2] == pytest.approx(3.5, abs=0.004)
    assert lab.world.rotation["gw/s1"] == (True, True)


def test_gap_follows_the_state_after_the_result() -> None:
    lab = Lab(check={"fastinter_s": 0.5, "downinter_s": 5.0})
    lab.fault("rst", 10.0, 40.0)
    lab.world.run(60)
    begun = [t for t, name in lab.world.checks if name == "gw/s1" and t > 8]
    gaps = [round(b - a, 1) for a, b in zip(begun, begun[1:], strict=False)]
    down = gaps.index(5.0)
    assert gaps[down - 2 : down + 2] == [0.5, 0.5, 5.0, 5.0]
    assert 0.5 in gaps[down:]  # one success while DOWN is transitional


DETECT = [  # fault, duration of a failing check, words
    ("rst", 0.0, "Layer4 connection problem"), ("drop", 2.0, "Layer4 timeout"),
    ("stop", 2.0, "Layer7 timeout"), ("h503", 0.001, "Layer7 wrong status"),
    ("slow", 2.0, "Layer7 timeout"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "took_s", "words"), DETECT)
@pytest.mark.parametrize("age_s", [0.05, 0.7, 1.5176, 1.95])
def test_detection_time_by_the_formula(kind, took_s, words, age_s) -> None:
    """detect = (I - phi) + f*Tf + (f-1)*F, phi pinned by `phases`."""
    lab = Lab(phases={"gw/s1": 20.0 - age_s - 0.001})
    lab.fault(kind, 20.0)
    lab.world.run(60)
    expected = 2 - age_s + 3 * took_s + 2 * 2.0
    assert lab.when(False) - 20 == pytest.approx(expected, abs=0.02)
    _, event, detail = lab.world.events("is DOWN")[-1]
    assert event == "Server gw/s1 is DOWN"
    assert detail.startswith(f"reason: {words}")
    assert detail.endswith("2 active and 0 backup servers left.")


def test_the_measured_trial_with_the_same_phase() -> None:
    """haproxy.csv, base/drop: phase 1.5176 s, detected after 10.489 s."""
    lab = Lab(phases={"gw/s1": 20.0 - 1.5176 - 0.001})
    lab.fault("drop", 20.0)
    lab.world.run(60)
    assert lab.when(False) - 20 == pytest.approx(10.489, abs=0.02)


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("rst", 2, 4), ("drop", 2, 5), ("stop", 2, 4), ("slow", 2, 6)]
)
@pytest.mark.parametrize("repair", [40.0, 40.7, 41.3, 42.1, 43.9])
def test_recovery_lies_in_the_range_of_the_reference(kind, low, high, repair) -> None:
    lab = Lab()
    lab.fault(kind, 20.0, repair)
    lab.world.run(80)
    assert low - 0.01 <= lab.when(True, after=repair - 0.001) - repair <= high + 0.03


def test_one_success_resets_to_the_top_and_one_failure_to_zero() -> None:
    lab = Lab()
    row = lab.machine.containers["haproxy"].process.data.rows[0]
    assert row.health == 4
    row.failed("x")
    row.failed("x")
    assert (row.health, row.up) == (2, True)
    row.passed("y", 1)
    assert row.health == 4
    for _ in range(3):
        row.failed("x")
    assert (row.health, row.up) == (0, False)
    row.passed("y", 1)
    assert (row.health, row.up) == (1, False)
    row.failed("x")
    assert row.health == 0
    row.passed("y", 1)
    row.passed("y", 1)
    assert (row.health, row.up) == (4, True)


def test_at_start_every_server_is_up_and_the_first_failure_is_fatal() -> None:
    made, edges = make_stack()
    world = FakeWorld(made, edges)
    machine = Machine(world)
    machine.docker.start("haproxy")
    world.run(3)
    first = {n: t for t, n in reversed(world.checks)}
    for name in ("gw/s1", "gw/s2", "gw/s3"):
        turns = [(t, u) for t, n, u, _ in world.rotations if n == name]
        assert turns[:2] == [(0.0, True), (first[name], False)]
    assert world.events("backend gw has no server available!")


def test_the_phase_is_random_per_replication_and_keeps_the_stagger() -> None:
    seen = set()
    for seed in range(5):
        made, edges = make_stack()
        world = FakeWorld(made, edges, seed=seed)
        Machine(world).docker.start("haproxy")
        world.run(6)
        first = {n: t for t, n in reversed(world.checks)}
        assert first["gw/s2"] - first["gw/s1"] == pytest.approx(0.666)
        assert 0 <= first["gw/s1"] < 2
        seen.add(first["gw/s1"])
    assert len(seen) == 5


def test_phases_may_pin_a_whole_balancer() -> None:
    lab = Lab(phases={"haproxy": 12.5})
    lab.world.run(20)
    begun = {(t, n) for t, n in lab.world.checks}
    assert {(12.5, "gw/s1"), (13.166, "gw/s2"), (13.833, "gw/s3")} <= begun


def test_every_change_is_logged_with_log_health_checks() -> None:
    lab = Lab(backend={"log_health_checks": True})
    lab.fault("rst", 5.0, 20.0)
    lab.world.run(30)
    states = [d.rsplit(", ", 1)[1] for t, e, d in lab.world.events("Health check") if t > 0]
    assert states == [
        "status: 2/3 UP", "status: 1/3 UP", "status: 0/2 DOWN",
        "status: 1/2 DOWN", "status: 3/3 UP",
    ]  # fmt: skip


def test_backup_and_disabled_servers() -> None:
    lab = Lab(server={"backup": True})
    lab.fault("rst", 5.0)
    lab.world.run(20)
    _, event, detail = lab.world.events("is DOWN")[-1]
    assert event == "Backup server gw/s1 is DOWN"
    assert "0 active and 2 backup servers left" in detail
    lab = Lab(server={"disabled": True})
    lab.world.run(20)
    assert lab.world.rotation["gw/s1"] == (False, False)
    assert not lab.world.checks


def test_a_server_without_check_stays_usable() -> None:
    made, edges = make_stack()
    back = made.balancers[0].backends[0]
    bare = replace(back, servers=tuple(replace(s, check=None) for s in back.servers))
    made = replace(made, balancers=(replace(made.balancers[0], backends=(bare,)),))
    world = FakeWorld(made, edges)
    Machine(world).docker.start("haproxy")
    world.run(30)
    assert set(world.rotation.values()) == {(True, True)}


def test_slowstart_steps_weight_and_maxconn_every_second() -> None:
    lab = Lab(server={"slowstart_s": 10.0, "maxconn": 50})
    lab.fault("rst", 5.0, 20.0)
    lab.world.run(60)
    up = lab.when(True, after=20.0)
    weights = [(round(c[0] - up, 3), c[3]) for c in lab.world.commands
               if c[1] == "set_weight" and c[0] > 0]  # fmt: skip
    assert [w for _, w in weights] == [1, 2, 4, 5, 7, 9, 10, 12, 13, 15, 16]
    assert [t for t, _ in weights] == [float(i) for i in range(11)]
    limits = [c[3] for c in lab.world.commands if c[1] == "set_maxconn" and c[0] > 0]
    assert limits == [1, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50]
    ups = [t for t, e, _ in lab.world.events("gw/s1 is UP") if t > 0]
    assert [round(t - up, 3) for t in ups] == [0.0, 10.0]  # twice, as HAProxy does
    running = [t for t, n, _, r in lab.world.rotations if n == "gw/s1" and r and t > 20]
    assert running[0] == pytest.approx(up + 10)


def test_marked_down_shuts_sessions_down() -> None:
    lab = Lab(server={"on_marked_down": "shutdown-sessions"})
    lab.fault("h503", 5.0)
    lab.world.run(20)
    assert [c for c in lab.world.commands if c[1] == "shutdown_sessions" and c[0] > 0] == [
        (lab.when(False), "shutdown_sessions", "gw/s1")
    ]


@pytest.mark.parametrize(
    ("on_error", "health", "up"),
    [("fail-check", 3, True), ("fastinter", 4, True), ("sudden-death", 2, True),
     ("mark-down", 0, False)],
)  # fmt: skip
def test_observed_errors(on_error: str, health: int, up: bool) -> None:
    lab = Lab(server={"observe": "layer4", "on_error": on_error}, check={"fastinter_s": 0.3},
              phases={"gw/s1": 10.0})  # fmt: skip
    edge = lab.world.edges()[1]
    lab.world.run(10.5)
    lab.world.observing[edge].succeed()
    lab.world.run(10.6)
    row = lab.machine.containers["haproxy"].process.data.rows[0]
    assert (row.health, row.up) == (health, up)
    assert lab.world.rotation["gw/s1"][0] is up
    lab.world.run(11)
    assert [t for t, n in lab.world.checks if n == "gw/s1" and 10.1 < t < 10.9] == [10.8]


def test_disable_on_404_drains_without_an_error() -> None:
    lab = Lab(backend={"disable_on_404": True})
    lab.world.run(5)
    lab.world.responses["gw-1"] = (404, 0.001)
    lab.world.run(10)
    row = lab.machine.containers["haproxy"].process.data.rows[0]
    assert (row.up, row.status) == (True, "NOLB")
    assert lab.world.rotation["gw/s1"] == (False, False)
    lab.world.responses["gw-1"] = (200, 0.001)
    lab.world.run(15)
    assert lab.world.rotation["gw/s1"] == (True, True)


def test_a_paused_haproxy_judges_nothing() -> None:
    lab = Lab()
    lab.machine.freeze("haproxy")
    lab.fault("rst", 1.0)
    lab.world.run(30)
    assert lab.world.rotation["gw/s1"] == (True, True)
    lab.machine.thaw("haproxy")
    lab.world.run(40)
    assert 30 < lab.when(False) <= 36.1


def test_soft_stop_ends_when_the_last_request_has() -> None:
    lab = Lab()
    lab.world.inflights["haproxy"] = 1
    lab.world.spawn(lab.machine.docker.stop("haproxy"), "stop")
    lab.world.run(5)
    assert lab.world.connect[lab.world.edges()[0]] == 1  # refused
    assert lab.machine.containers["haproxy"].process is not None
    checks = len(lab.world.checks)
    lab.world.finish_requests("haproxy")
    lab.world.run(9)
    assert lab.machine.containers["haproxy"].process is None
    assert len(lab.world.checks) == checks


def test_marked_up_shuts_the_sessions_of_backups_down() -> None:
    made, _ = make_stack()
    first, second, third = made.balancers[0].backends[0].servers
    first = replace(first, on_marked_up="shutdown-backup-sessions")
    servers = (first, replace(second, backup=True), third)
    lab = Lab(servers=servers)
    lab.fault("rst", 5.0, 20.0)
    lab.world.run(30)
    shut = [c[1:] for c in lab.world.commands if c[1] == "shutdown_sessions" and c[0] > 0]
    assert shut == [("shutdown_sessions", "gw/s2")]
