"""The audit of the guide measured a few single runs; each lies within what the simulation allows.

50 requests a second, evenly spaced, three servers of 20 ms, one of which fails after 5 s: with the
guide's file, with `option redispatch`, and with the fixes of the audit (guide-audit.md, section 0).
The phase of the checks in those runs is not known, so that a count is compared with the range of
simulated counts over phases, which must not be wider than the phase explains.
"""

from __future__ import annotations

from pathlib import Path

import haproxy_lab as lab
import numpy as np
import pytest
from haproxy_lab import codes, failed, play

from hasim.bind import load_scenarios
from hasim.sim.run import replicate

pytestmark = pytest.mark.slow
RUNS = 20
RST = "do: crash, target: web-1"
STOP = "do: pause, target: web-1"
DROP = "do: blackhole, target: web-1"
GUIDE = {"service_ms": 20}
REDISP = {"service_ms": 20, "redispatch": True}
FIXED = {
    "service_ms": 20,
    "connect_ms": 500,
    "defaults": "    timeout server 3s\n    option redispatch 1\n"
    "    retry-on conn-failure empty-response response-timeout\n",
    "check": "check inter 1s fastinter 500ms rise 2 fall 2 observe layer4 on-error mark-down",
}


def runs(folder: Path, fault: str, stack: dict, seconds: float = 75.0, count: int = RUNS):
    """One run per phase of the checks and of the arrivals (one every 20 ms)."""
    return [
        play(folder, f"{{at: {5 + 0.0037 * n:.4f}s, {fault}}}", seconds=seconds, number=n, **stack)
        for n in range(count)
    ]


def spread(numbers) -> tuple[float, float]:
    return min(numbers), max(numbers)


@pytest.mark.parametrize(
    ("fault", "code", "count", "takes_s", "widest"),
    [
        (RST, "503 SC--", 96, 3.01, (65, 103)),
        (STOP, "504 sH--", 180, 50.0, (165, 203)),
        (DROP, "503 sC--", 194, 20.0, (165, 203)),
    ],
    ids=["killed", "hung", "dropped"],
)
def test_guide(tmp_path, fault, code, count, takes_s, widest) -> None:
    """widest: 4 to 6 s, or 10 to 12 s, of a third of 50 requests a second."""
    traces = runs(tmp_path, fault, GUIDE)
    low, high = spread([len(failed(t)) for t in traces])
    assert low <= count <= high
    assert widest[0] <= low <= high <= widest[1]
    for trace in traces:
        rows = failed(trace)
        main = rows[rows["start_s"] >= trace.faults[0].start_s]
        assert len(rows) - len(main) <= 1  # in flight
        assert code in codes(trace)
        assert main["latency_s"] == pytest.approx(takes_s, abs=0.04)


def test_guide_with_redispatch_killed(tmp_path) -> None:
    """0 failed, at most 0.12 s."""
    traces = runs(tmp_path, RST, REDISP, 20)
    low, high = spread([len(failed(t)) for t in traces])
    assert low == 0
    assert high <= 1  # one request may be in flight: 502
    assert max(t.requests["latency_s"].max() for t in traces) <= 0.12


def test_guide_with_redispatch_hung(tmp_path) -> None:
    """169 wait 50 s."""
    traces = runs(tmp_path, STOP, REDISP)
    low, high = spread([len(failed(t)) for t in traces])
    assert low <= 169 <= high
    assert all(codes(t) == {"504 sH--"} for t in traces)


def test_guide_with_redispatch_dropped(tmp_path) -> None:
    """0 failed, 170 take 5.03 s."""
    traces = runs(tmp_path, DROP, REDISP)
    slow = [int(np.sum(t.requests["latency_s"] > 4)) for t in traces]
    low, high = spread(slow)
    assert low <= 170 <= high
    late = np.concatenate([t.requests["latency_s"][t.requests["latency_s"] > 4] for t in traces])
    assert np.median(late) == pytest.approx(5.03, abs=0.02)
    assert sum(len(failed(t)) for t in traces) <= RUNS  # in flight when packets vanish: 504


@pytest.mark.parametrize(("fault", "longest_s"), [(RST, 0.13), (STOP, 3.1), (DROP, 3.1)])
def test_fixed_loses_nothing(tmp_path, fault, longest_s) -> None:
    """Killed: at most 0.13 s. Hung: 3.0 s. Dropped: 3.03 s, the request that was in flight."""
    traces = runs(tmp_path, fault, FIXED, 20)
    assert sum(len(failed(t)) for t in traces) == 0
    assert max(t.requests["latency_s"].max() for t in traces) <= longest_s


def test_fixed_hung_slows_54_requests(tmp_path) -> None:
    """Detection takes 2.5 to 3.5 s of a third of 50 requests a second; each waits 3.0 s."""
    traces = runs(tmp_path, STOP, FIXED, 20)
    slow = [t.requests["latency_s"][t.requests["latency_s"] > 1] for t in traces]
    low, high = spread([len(x) for x in slow])
    assert 40 <= low <= 54 <= high <= 61
    assert np.concatenate(slow) == pytest.approx(3.02, abs=0.03)


# ---- rolling restarts ----------------------------------------------------------------------------
def rolling(folder: Path, boot: str, seconds: int, stack: dict, number: int):
    """Each server in turn: its process ends, at once, and starts again; `boot` until it listens."""
    step = seconds // 3
    faults = ", ".join(
        f"{{at: {2 + i * (step + 0.0131) + 0.0037 * number:.4f}s, do: restart,"
        f" target: web-{i + 1}, grace: 0s}}"
        for i in range(3)
    )
    return play(folder, faults, seconds=seconds, boot=boot, number=number, **stack)


def test_rolling_restart_with_a_boot_of_2_s(tmp_path) -> None:
    """Of 2250 requests none failed and 111 took longer than 1 s: HAProxy does not notice."""
    slow, lost = [], []
    for number in range(10):
        trace = rolling(tmp_path, "2s", 45, GUIDE, number)
        assert len(trace.requests) == pytest.approx(2250, abs=2)
        slow.append(int(np.sum(trace.requests["latency_s"] > 0.99)))
        lost.append(len(failed(trace)))
        assert codes(trace) <= {"502 SH--"}
        assert np.quantile(trace.requests["latency_s"], 0.99) == pytest.approx(2.0, abs=0.05)
    assert min(lost) == 0
    assert max(lost) <= 3
    assert 95 <= min(slow) <= max(slow) <= 115


def test_rolling_restart_with_a_boot_of_10_s(tmp_path) -> None:
    """About 240 of 3500 failed (503 and 502), 231 took longer than 1 s."""
    slow, lost = [], []
    for number in range(10):
        trace = rolling(tmp_path, "10s", 70, GUIDE, number)
        assert len(trace.requests) == pytest.approx(3500, abs=2)
        slow.append(int(np.sum(trace.requests["latency_s"] > 1)))
        lost.append(len(failed(trace)))
        assert codes(trace) <= {"502 SH--", "503 SC--"}
    assert 195 <= min(lost) <= 240 <= max(lost) <= 310
    assert 195 <= min(slow) <= 231 <= max(slow) <= 310


@pytest.mark.parametrize(("boot", "seconds"), [("2s", 45), ("10s", 70)])
def test_rolling_restart_with_redispatch_costs_requests_in_flight(tmp_path, boot, seconds) -> None:
    """One 502 with a boot of 2 s, two with 10 s: the requests in flight, one each at most."""
    lost = []
    for number in range(10):
        trace = rolling(tmp_path, boot, seconds, REDISP, number)
        assert codes(trace) <= {"502 SH--"}
        lost.append(len(failed(trace)))
    assert min(lost) <= 1 <= max(lost) <= 3


def test_rolling_restart_with_the_fixes_costs_nothing(tmp_path) -> None:
    assert not failed(rolling(tmp_path, "2s", 45, FIXED, 0)).size


# ---- the closed loop -----------------------------------------------------------------------------
def rate(trace, begin_s: float, end_s: float) -> float:
    """Requests that end per second between two moments after the fault, as k6 counts them."""
    start = trace.faults[0].start_s
    ended = (trace.per_second["ok"] + trace.per_second["failed"]).sum(axis=1)
    return float(np.mean(ended[int(start + begin_s) : int(start + end_s)]))


def test_one_hung_gateway_stops_all_users(models) -> None:
    """Real k6, 100 users, 1 s think: 90/s, then 4.6/s within 5 to 10 s, then 1/s until 50 s."""
    file, stack = load_scenarios(models / "story-portal-guide-bootable" / "scenarios.yaml")
    scenario = next(s for s in file.scenarios if s.name == "gateway-pause")
    traces = [replicate(stack, scenario, lab.SEED, n) for n in range(5)]
    assert np.mean([rate(t, -30, 0) for t in traces]) == pytest.approx(95, abs=6)
    assert 2.5 <= np.mean([rate(t, 5, 10) for t in traces]) <= 8
    assert 0.1 <= np.mean([rate(t, 15, 48) for t in traces]) <= 3
    assert np.mean([rate(t, 70, 100) for t in traces]) > 85


def test_a_killed_server_makes_a_dip_of_a_third(tmp_path) -> None:
    """83 of 3657 requests failed; 59/s for about 6 s instead of 91/s."""
    lab.write_stack(tmp_path, service_ms=20)
    (tmp_path / "scenarios.yaml").write_text(
        "version: 1\nstack: .\nloads:\n  users: {executor: constant-vus, vus: 100, duration: 40s,"
        " think_time: 1s, mix: {web/get: 100%}}\nscenarios:\n  kill:\n    load: users\n"
        f"    faults: [{{at: 10s, {RST}}}]\n"
    )
    file, stack = load_scenarios(tmp_path / "scenarios.yaml")
    traces = [
        replicate(stack, file.scenarios[0], lab.SEED, n, keep_requests=True) for n in range(20)
    ]
    low, high = spread([len(failed(t)) for t in traces])
    assert low <= 83 <= high
    asked = [len(t.requests) for t in traces]
    assert np.mean(asked) == pytest.approx(3657, rel=0.03)
    dips = [rate(t, 0, 6) for t in traces]
    assert min(dips) <= 59 <= max(dips)
    assert np.mean([rate(t, -8, -1) for t in traces]) == pytest.approx(98, abs=3)
