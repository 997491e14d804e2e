"""How long Patroni's etcd client tries: ours against the real one (tests/measured/patroni-dcs.csv)
and against the fits of reference/postgres-patroni.md 2.4.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from hasim.components.patroni.client import DcsError, timeouts
from hasim.components.patroni.config import Dynamic
from tests.components.patroni_lab import Lab

FILE = Path(__file__).parent.parent / "measured" / "patroni-dcs.csv"
PARTS = [(10, "silent"), (5, "silent"), (3, "silent"), (10, "refused"), (10, "frozen")]


def measured(retry: int, fault: str) -> list[float]:
    with FILE.open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if int(r["retry_timeout"]) == retry]
    return [float(r["gives_up_s"]) for r in rows if r["fault"] == fault]


def give_up_s(lab: Lab, limit_s: float = 40.0) -> float:
    """From the start of a cycle's requests to the DCSError."""
    node, ended = lab.node(lab.primary), []

    def cycle():
        try:
            view = yield from node.dcs.cluster()
            yield from node.dcs.update_leader(view, None)
        except DcsError:
            ended.append(lab.world.now_s)

    begun = lab.world.now_s
    lab.world.env.process(cycle())
    lab.when(lambda: ended, limit_s)
    return ended[0] - begun if ended else float("inf")


def tries(retry: int, fault: str, seeds: range) -> list[float]:
    lab = Lab(dynamic=Dynamic(ttl=30, loop_wait=10, retry_timeout=retry), settle_s=40)
    lab.cycle()
    lab.run(1)
    found = []
    for _ in seeds:
        _hit(lab, fault, True)
        found.append(give_up_s(lab))
        _hit(lab, fault, False)
        lab.run(60)
    return found


def _hit(lab: Lab, fault: str, on: bool) -> None:
    machine = lab.machine
    if fault == "silent":
        machine.network.blackhole("x1", on)
    elif fault == "frozen":
        (machine.freeze if on else machine.thaw)("etcd-1")
    elif on:
        machine.docker.kill("etcd-1")
        lab.run(0.01)
    else:
        machine.docker.start("etcd-1")


@pytest.mark.parametrize(("retry", "fault"), PARTS)
def test_the_client_gives_up_when_the_real_one_does(retry: int, fault: str) -> None:
    ours = tries(retry, fault, range(8))
    for seconds in measured(retry, fault):
        assert min(abs(seconds - mine) for mine in ours) < 0.35, (seconds, sorted(ours))
    low, high = min(measured(retry, fault)), max(measured(retry, fault))
    spread = 1.0 if fault == "frozen" else 0.5  # three values of a wide distribution
    assert all(low - spread < mine < high + spread for mine in ours)


def test_half_a_minute_of_retry_timeout_is_cut_into_tries_as_in_patroni() -> None:
    assert timeouts(1, 10) == (1, pytest.approx(10 / 3), 3)
    assert timeouts(3, 10) == (3, pytest.approx(10 / 3), 1)
    assert timeouts(3, 2.8) == (2, pytest.approx(1.4), 1)
    assert timeouts(1, 0.9)[0] == 0


def test_three_members_of_which_only_a_local_one_without_quorum_answers() -> None:
    """8.5 to 9.2 s were measured for retry_timeout 10; the code's own waits add up to 9.4 to 9.8
    (3.3 on the local member, 1.7 on each silent one, a pause, then 1.2 to 1.6 and 1.0).
    """
    lab = Lab(n=3, etcd=3, together=True)
    lab.cycle()
    lab.run(1)
    lab.silence()
    lab.run(3)  # the local member has noticed that it is alone
    assert 8.5 <= give_up_s(lab) <= 9.9


def test_the_real_client_divides_its_time_like_ours() -> None:
    etcd = pytest.importorskip("patroni.dcs.etcd")
    real = etcd.AbstractEtcdClientWithFailover._calculate_timeouts
    for members in (1, 2, 3, 5):
        for tenths in range(1, 120):
            left = tenths / 10
            count, each, retries = real(None, members, left)
            ours = timeouts(members, left)
            assert ours[0] == count
            if count:
                assert ours[1:] == (pytest.approx(each), retries + 1)
