"""What users and HAProxy's log see while a server fails (reference/haproxy.md 4, 5 and 6.3).

Latencies are those that were measured, with a few milliseconds for the simulated network.
"""

from __future__ import annotations

import numpy as np
import pytest
from haproxy_lab import at, codes, failed, first, play

RST = "do: crash, target: web-1"
DROP = "do: blackhole, target: web-1"
STOP = "do: pause, target: web-1"
REPLAY = "    option redispatch\n    retry-on all-retryable-errors\n"
KEEP = "{kind: k6, replay: false}"


def waits(trace):
    """Requests that took longer than a healthy one ever does."""
    return trace.requests[trace.requests["latency_s"] > 0.5]


# ---- 4.4 latency of a failing request ----------------------------------------------------------
@pytest.mark.parametrize(
    ("fault", "connect_ms", "takes_s", "code"),
    [
        (RST, 5000, 3.0, "503 SC--"),  # R * min(1 s, Tc)
        (DROP, 5000, 20.0, "503 sC--"),  # (R + 1) * Tc
        (DROP, 1000, 4.0, "503 sC--"),
        (RST, 500, 1.5, "503 SC--"),
        (STOP, 5000, 50.0, "504 sH--"),
    ],
)
def test_a_failing_request_takes_as_long_as_measured(
    tmp_path, fault, connect_ms, takes_s, code
) -> None:
    """Each fault begins between two requests of web-1, so that none is under way."""
    trace = play(tmp_path, f"{{at: {at(1.05)}, {fault}}}", phase_s=1.05, connect_ms=connect_ms)
    rows = waits(trace)
    assert len(rows) >= 60
    assert codes(trace) == {code}
    assert rows["latency_s"] == pytest.approx(takes_s, abs=0.02)


def test_a_repaired_hang_answers_200_at_the_repair(tmp_path) -> None:
    """latency = repair time - send time"""
    trace = play(tmp_path, f"{{at: {at(1.0)}, {STOP}, for: 20s}}", phase_s=1.0)
    rows = waits(trace)
    assert not codes(trace)
    assert len(rows) > 100
    assert rows["start_s"] + rows["latency_s"] == pytest.approx(trace.faults[0].repair_s, abs=0.03)


def test_redispatch_costs_nothing_when_refused(tmp_path) -> None:
    trace = play(tmp_path, f"{{at: {at(1.05)}, {RST}}}", phase_s=1.05, redispatch=True)
    moved = trace.requests[trace.requests["retries"] == 1]
    assert len(moved) > 50
    assert not codes(trace)
    assert moved["latency_s"].max() < 0.02


def test_redispatch_costs_one_connect_timeout_in_a_black_hole(tmp_path) -> None:
    trace = play(tmp_path, f"{{at: {at(1.05)}, {DROP}}}", phase_s=1.05, redispatch=True)
    assert not codes(trace)
    assert waits(trace)["latency_s"] == pytest.approx(5.01, abs=0.02)


def test_redispatch_does_not_help_a_hang(tmp_path) -> None:
    trace = play(tmp_path, f"{{at: {at(1.0)}, {STOP}}}", phase_s=1.0, redispatch=True)
    assert codes(trace) == {"504 sH--"}
    assert waits(trace)["latency_s"] == pytest.approx(50.0, abs=0.02)


def test_with_one_server_left_redispatch_still_pauses(tmp_path) -> None:
    """One of one: 3 s of turn-around; whoever meets DOWN on the way ends without a server."""
    trace = play(tmp_path, f"{{at: {at(0.1)}, {RST}}}", rate=15, phase_s=0.1, servers=1,
                 redispatch=True, seconds=20)  # fmt: skip
    down = first(trace, "is DOWN", 0)
    early = trace.requests[trace.requests["start_s"] < down - 3.1]
    early = early[early["start_s"] > trace.faults[0].start_s]
    assert early["latency_s"] == pytest.approx(3.0, abs=0.01)
    assert (early["server"] == 0).all()


# ---- 4.5 codes -----------------------------------------------------------------------------------
def in_flight(tmp_path, client: str, op: str = "web/get", **stack):
    """A kill of one of three servers at 200 requests a second of 200 ms each."""
    trace = play(
        tmp_path, f"{{at: 5s, {RST}}}", rate=200, seconds=20, client=client, op=op,
        service_ms=200, redispatch=True, **stack,
    )  # fmt: skip
    rows = trace.requests
    under_way = (rows["start_s"] < 5.0) & (rows["start_s"] + rows["latency_s"] >= 5.0)
    assert under_way.sum() > 30
    return trace


def test_requests_in_flight_at_a_kill_get_502(tmp_path) -> None:
    trace = in_flight(tmp_path, "one-shot")
    assert codes(trace) == {"502 SH--"}
    assert 10 <= len(failed(trace)) <= 15  # 200/s / 3 * 0.2 s


def test_later_requests_of_a_client_connection_are_closed_silently(tmp_path) -> None:
    """2.6: no response at all, where a first request gets a 502."""
    trace = in_flight(tmp_path, KEEP)
    assert codes(trace) <= {"eof SH--", "502 SH--"}
    assert np.mean(failed(trace)["status"] == "eof") > 0.8
    assert trace.counters["replays"] == 0


def test_k6_replays_a_get_and_never_a_post(tmp_path) -> None:
    """A GET on a reused connection is sent again: 200. A POST fails with EOF, status 0."""
    gets = in_flight(tmp_path / "get", "k6")
    assert gets.counters["replays"] > 8
    assert "eof" not in failed(gets)["status"]
    posts = in_flight(tmp_path / "post", "k6", op="web/put")
    assert posts.counters["replays"] == 0
    assert "eof" in failed(posts)["status"]


@pytest.mark.parametrize("op", ["web/get", "web/put"])
def test_all_retryable_errors_replays_what_a_kill_cuts(tmp_path, op) -> None:
    """`option redispatch`, retries 3: 0 errors, POST included."""
    trace = in_flight(tmp_path, "one-shot", op=op, defaults="    retry-on all-retryable-errors\n")
    assert not failed(trace).size
    assert trace.counters["retries"] > 8


def test_response_timeout_still_waits_for_timeout_server(tmp_path) -> None:
    trace = play(tmp_path, f"{{at: {at(1.0)}, {STOP}}}", phase_s=1.0, defaults=REPLAY)
    assert not failed(trace).size
    assert waits(trace)["latency_s"] == pytest.approx(50.01, abs=0.03)


# ---- 4.8 idle connections ------------------------------------------------------------------------
def test_idle_connections_into_a_black_hole_wait_for_tcp(tmp_path) -> None:
    """An outage of 16 to 17 s lasted 27 to 28 s for requests on idle server connections."""
    for lasts_s in (16.0, 17.0):
        trace = play(
            tmp_path, f"{{at: {at(1.0)}, {DROP}, for: {lasts_s}s}}", client="k6", phase_s=1.0,
            seconds=60,
        )  # fmt: skip
        rows = trace.requests[trace.requests["latency_s"] > 21]
        assert len(rows) > 0
        assert 27.0 <= rows["latency_s"].min() <= rows["latency_s"].max() <= 28.0
        assert set(rows["status"]) == {"200"}


def test_a_kill_takes_idle_connections_with_it(tmp_path) -> None:
    """FIN: nobody waits on them, a keep-alive client is refused like everybody else."""
    trace = play(tmp_path, f"{{at: {at(1.05)}, {RST}}}", client="k6", phase_s=1.05, seconds=30)
    assert waits(trace)["latency_s"] == pytest.approx(3.0, abs=0.02)
    assert "504 sH--" not in codes(trace)
