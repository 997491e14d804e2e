"""Every measured trial of the real HAProxy, replayed: same phase, same load, same length of fault.

tests/measured/README.md says where the trials come from. Each one is simulated 20 times under one
fixed seed; a pinned phase leaves only the arrivals and the milliseconds of drift to chance.
"""

from __future__ import annotations

from collections import defaultdict
from statistics import mean, median, stdev

import haproxy_lab as lab
import pytest
from scipy import stats

from hasim.components.haproxy.checks import Checker

SEED = 20260101
TIMES = 20
LOG_S = 0.010  # reading the log adds this to detect_s and recover_s (shared facts)
INTER_S = 2.0
CELLS = list(lab.cells())

# Where a repair meets a stopped server with a check under way, the answer waits for the backlog of
# the laboratory's server, which the csv does not tell: no part of the criterion on recover_s.
BACKLOG_S = 0.0012  # per waiting request at most, but for one stall

slow = pytest.mark.slow
each_cell = pytest.mark.parametrize("cell", CELLS, ids="-".join)


def replay(folder, times=TIMES, **changes) -> dict[tuple[str, str], list]:
    """cell -> [(trial, its outcomes)]."""
    groups = defaultdict(list)
    for trial in lab.trials():
        groups[trial.folder].append(trial)
    out = defaultdict(list)
    for number, group in enumerate(groups.values()):
        stack, pairs = lab.load_trials(folder / str(number), group, **changes)
        for trial, scenario in pairs:
            runs = [lab.run(stack, scenario, SEED, i, True) for i in range(times)]
            out[trial.cell].append((trial, runs))
    return dict(out)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """Every trial, 20 times."""
    return replay(tmp_path_factory.mktemp("lab"))


def late_detection(trial, runs) -> float:
    """Measured minus simulated minus the delay of the log, in seconds."""
    return trial.detect_s - mean(o.detect_s for o in runs) - LOG_S


def late_recovery(trial, runs) -> float:
    return trial.recover_s - mean(o.recover_s for o in runs) - LOG_S


def check_at_repair(trial) -> bool:
    """Is a check that hangs under way when the fault ends? One cycle is a wait and a timeout."""
    since_down = trial.hold_s - trial.detect_s
    return since_down % (2 * INTER_S + 0.004) >= INTER_S + 0.002


def check_due_at_fault(trial) -> bool:
    """The age of the last good check is an interval: the next one races with the fault."""
    return trial.phase_s >= INTER_S


def determined(trial) -> bool:
    """Does the phase at the fault say when recovery is noticed?"""
    stuck = trial.fault == "stop" and check_at_repair(trial)
    return not check_due_at_fault(trial) and not stuck


def holds(residuals: list[float]) -> bool:
    """The criterion: a median within 10 ms, four of five within 40 ms."""
    near = sum(abs(r) <= 0.040 for r in residuals)
    return abs(median(residuals)) <= 0.010 and near >= 0.8 * len(residuals)


def why_detection_differs(trial) -> str:
    """The name of a difference of more than 200 ms; "" if there is none."""
    return "the next check was due when the fault came" if check_due_at_fault(trial) else ""


def why_recovery_differs(trial, runs) -> str:
    if check_due_at_fault(trial):
        return "so the whole schedule is another one"
    if trial.fault == "stop" and trial.latency_max_s - trial.hold_s > 0.5:
        return "the resumed server stood still, its requests say so too"
    if late_detection(trial, runs) > 0.1:
        return "the laboratory's checks were late already when it went DOWN"
    return ""


@slow
@each_cell
def test_detection_comes_when_it_came(replayed, cell) -> None:
    rows = replayed[cell]
    late = [late_detection(*row) for row in rows]
    assert holds(late), [round(x, 4) for x in late]
    far = [(trial.number, x) for (trial, _), x in zip(rows, late, strict=True) if abs(x) > 0.2]
    assert all(why_detection_differs(lab.trials()[number]) for number, _ in far), far


# Not reached, with its numbers: 13 of 19 trials lie within 40 ms (median 3 ms). Repairs 1.5 to
# 1.7 s into a check were noticed about 100 ms later than simulated, those 1.0 to 1.4 s were not.
# Repeated on 2.6.12 (test_haproxy_rules.py) they come as simulated: it is the laboratory's delay.
DROP = pytest.param(
    ("base", "drop"),
    marks=pytest.mark.xfail(reason="6 of 19 are 70 to 250 ms late in the laboratory"),
)
# Six trials whose phase is determined: 3, 4, 8, 18, 35 and 40 ms late.
STOP = pytest.param(
    ("base", "stop"), marks=pytest.mark.xfail(reason="the median of six trials is 13 ms, not 10")
)
KNOWN = {DROP.values[0]: DROP, STOP.values[0]: STOP}


@slow
@pytest.mark.parametrize("cell", [KNOWN.get(c, c) for c in CELLS], ids="-".join)
def test_recovery_comes_when_it_came(replayed, cell) -> None:
    rows = [row for row in replayed[cell] if determined(row[0])]
    late = [late_recovery(*row) for row in rows]
    assert holds(late), [round(x, 4) for x in late]
    far = [r for r in replayed[cell] if abs(late_recovery(*r)) > 0.2]
    assert all(why_recovery_differs(*row) for row in far), [row[0].number for row in far]


@slow
@pytest.mark.parametrize("variant", ["base", "redisp"])
def test_a_resumed_server_answers_the_check_after_what_waits(replayed, variant) -> None:
    for trial, runs in replayed[variant, "stop"]:
        if check_at_repair(trial) and not why_recovery_differs(trial, runs):
            waiting = trial.rate / trial.servers * min(trial.hold_s, trial.detect_s)
            assert -0.010 <= late_recovery(trial, runs) <= 0.020 + BACKLOG_S * waiting, trial


def central(counts: list[int]) -> tuple[float, float]:
    """Where one more count lies with a probability of 99 %, from a sample."""
    n, average = len(counts), mean(counts)
    if average < 5:  # rare: Poisson with an unknown mean (Jeffreys)
        low, high = stats.nbinom.ppf([0.005, 0.995], sum(counts) + 0.5, n / (n + 1))
        return float(low), float(high)
    half = stats.t.ppf(0.995, n - 1) * stdev(counts) * (1 + 1 / n) ** 0.5
    return average - half - 0.5, average + half + 0.5


@slow
@each_cell
def test_as_many_requests_fail(replayed, cell) -> None:
    inside = []
    for trial, runs in replayed[cell]:
        low, high = central([o.failed for o in runs])
        inside.append(bool(low <= trial.failed <= high) or (trial.number, trial.failed, low, high))
    outside = [x for x in inside if x is not True]
    assert len(outside) <= 0.05 * len(inside), outside


@slow
@each_cell
def test_they_fail_with_the_same_codes(replayed, cell) -> None:
    """What was measured is simulated; what is only simulated is too rare to have been seen."""
    measured = {code for trial, _ in replayed[cell] for code in trial.codes}
    seen = defaultdict(float)  # code -> expected number of trials with it
    for _, runs in replayed[cell]:
        for outcome in runs:
            for code in outcome.codes:
                seen[code] += 1 / TIMES
    assert measured <= set(seen)
    assert all(n < 4.6 for code, n in seen.items() if code not in measured), dict(seen)  # e^-4.6


@slow
@each_cell
def test_they_are_retried_as_often(replayed, cell) -> None:
    measured = {key for trial, _ in replayed[cell] for key in trial.retries}
    simulated = {key for _, runs in replayed[cell] for o in runs for key in o.retries}
    assert simulated == measured


@slow
@each_cell
def test_as_many_requests_are_retried(replayed, cell) -> None:
    """A redispatch takes a turn of another server, so that the failed one meets more than a third.

    99 % of 152 trials are inside; a cell has room for one more.
    """
    outside = []
    for trial, runs in replayed[cell]:
        low, high = central([sum(o.retries.values()) for o in runs])
        if not low <= sum(trial.retries.values()) <= high:
            outside.append((trial.number, sum(trial.retries.values()), low, high))
    assert len(outside) <= max(1, 0.05 * len(replayed[cell])), outside


# ---- the criterion can fail ----------------------------------------------------------------------
def broken_cells(folder, **changes) -> set[str]:
    """Faults whose detection no longer comes when it came."""
    once = replay(folder, times=1, **changes)
    return {
        fault for (_, fault), rows in once.items() if not holds([late_detection(*r) for r in rows])
    }


FAULTS = {fault for _, fault in CELLS}


@slow
def test_a_longer_interval_is_noticed(tmp_path) -> None:
    assert broken_cells(tmp_path, check="check inter 2200 rise 2 fall 3") == FAULTS


@slow
def test_one_failure_less_is_noticed(tmp_path) -> None:
    assert broken_cells(tmp_path, check="check inter 2000 rise 2 fall 2") == FAULTS


@slow
def test_intervals_from_the_start_of_a_check_are_noticed(tmp_path, monkeypatch) -> None:
    """A check that is refused takes no time, so that only slow failures can tell."""
    judge, gap = Checker._judge, Checker.gap_ms
    took: dict[int, int] = {}

    def remember(self, code, duration_ms):
        took[id(self)] = duration_ms
        judge(self, code, duration_ms)

    monkeypatch.setattr(Checker, "_judge", remember)
    monkeypatch.setattr(Checker, "gap_ms", lambda self: max(0, gap(self) - took.get(id(self), 0)))
    assert broken_cells(tmp_path) == {"drop", "stop", "slow2.5"}
