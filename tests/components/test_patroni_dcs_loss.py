"""Patroni without etcd: isolated, silent, refused, failsafe (reference/postgres-patroni.md 2.4)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hasim.components.patroni.config import Dynamic
from tests.components.patroni_lab import WRITES, lab_at, new_primary

DEFAULTS = Dynamic(use_pg_rewind=True)
L, R = DEFAULTS.loop_wait, DEFAULTS.retry_timeout


def test_an_isolated_primary_demotes_itself_before_its_lease_is_over() -> None:
    lab = lab_at(4.0, n=3, etcd=3, together=True)
    lab.silence()
    demoted = lab.when(lambda: lab.primary not in lab.writable())
    assert L - 4.0 + 8.5 <= demoted <= L - 4.0 + R + 1
    promoted = new_primary(lab)
    assert promoted > demoted
    assert lab.split_s() == 0
    assert lab.lost() <= WRITES * (demoted + 1)
    # the fast stop waits for the replicas that cannot be reached
    assert lab.server(lab.primary) is not None
    lab.until(65)
    assert lab.said("terminating walsender process due to replication timeout")


@pytest.mark.parametrize(("retry", "low", "high"), [(10, 8.3, 15.1), (5, 4.6, 5.0), (3, 4.0, 4.3)])
def test_a_silent_etcd_costs_the_tries_of_the_client(retry, low, high) -> None:
    lab = lab_at(4.0, dynamic=replace(DEFAULTS, retry_timeout=retry))
    lab.machine.network.blackhole("x1", True)
    demoted = lab.when(lambda: not lab.writable()) - 0.3  # decided, then stopped
    assert L - 4.0 + low - 0.2 <= demoted <= L - 4.0 + high + 0.2


def test_refused_connections_to_etcd_cost_retry_timeout() -> None:
    """A smaller retry_timeout makes outages of etcd cost more."""
    for retry in (3, 5, 10):
        lab = lab_at(4.0, dynamic=replace(DEFAULTS, retry_timeout=retry))
        lab.machine.docker.kill("etcd-1")
        demoted = lab.when(lambda lab=lab: not lab.writable())
        assert demoted == pytest.approx(L - 4.0 + retry + 0.2, abs=0.2)


def test_a_short_outage_of_etcd_is_not_felt() -> None:
    lab = lab_at(4.0)
    lab.machine.docker.kill("etcd-1")
    lab.run(10)
    lab.start("etcd-1")
    lab.run(60)
    assert not lab.said("demoting self")
    assert lab.writable() == [lab.primary]


def test_after_an_outage_of_etcd_the_same_node_is_promoted_again() -> None:
    lab = lab_at(4.0)
    lab.machine.docker.kill("etcd-1")
    lab.run(45)
    assert lab.writable() == []
    lab.start("etcd-1")
    assert 45.9 <= lab.when(lab.writable) <= 48.7
    assert lab.server(lab.leader()).timeline == 2


def test_failsafe_mode_keeps_the_primary_while_all_members_answer() -> None:
    lab = lab_at(4.0, n=3, dynamic=replace(DEFAULTS, failsafe_mode=True))
    lab.machine.docker.kill("etcd-1")
    lab.run(60)
    assert lab.writable() == [lab.primary]
    lab.node_kill(lab.other())
    assert lab.when(lambda: not lab.writable()) < 60 + L + R + 2


def test_failsafe_members_do_not_race_when_etcd_returns() -> None:
    lab = lab_at(4.0, dynamic=replace(DEFAULTS, failsafe_mode=True))
    lab.machine.docker.kill("etcd-1")
    lab.run(60)
    lab.start("etcd-1")
    lab.run(60)
    assert lab.writable() == [lab.primary]
    assert lab.server(lab.primary).timeline == 1
