"""Connections between daemons: what each end hears, and when."""

from __future__ import annotations

import pytest

from hasim.components.base import LOST, Component, request
from hasim.model import Host, Instance, Link, Stack
from hasim.sim.instances import Machine
from hasim.sim.network import Cut
from hasim.sim.world import CONNECTS, REFUSED, SILENT
from tests.sim.fake_world import FakeWorld

NS = 1_000_000_000


class Daemon(Component):
    kind = "service"

    def daemon(self, p, world, machine):
        machine.listen(p, True)
        yield p.ended


@pytest.fixture
def machine():
    hosts = tuple(Host(h, 4, 1 << 30) for h in "ab")
    instances = (
        Instance("x", "service", "a", networks=("n",)),
        Instance("y", "service", "b", networks=("n",)),
        Instance("y.inner", "service", "b", inside="y"),
    )
    stack = Stack("", "t", "", (), hosts, (Link("a", "b", 0.01),), instances, (), (), (), {})
    machine = Machine(FakeWorld(stack, []))
    machine.kinds = {"service": Daemon()}
    for name in ("x", "y", "y.inner"):
        machine.exec(name)
    machine.world.env.run(until=1)
    return machine


def run(machine, seconds):
    machine.world.env.run(until=machine.world.env.now + round(seconds * NS))


def dial(machine, target="y", timeout_s=float("inf")):
    p = machine.containers["x"].process
    event = machine.connect(p, target, timeout_s)
    machine.world.env.run(until=event)
    return event.value


def test_a_question_takes_one_round_trip(machine) -> None:
    conn = dial(machine)
    begun = machine.world.env.now
    answer = conn.ask(lambda p: p.instance)
    machine.world.env.run(until=answer)
    assert answer.value == "y"
    assert machine.world.env.now - begun == 0.01 * NS


def test_a_killed_server_is_heard_of_at_once_and_its_answers_are_lost(machine) -> None:
    conn = dial(machine)
    answer = conn.ask(lambda p: machine.world.env.event())
    run(machine, 1)
    machine.exit(machine.containers["y"].process, 137)
    run(machine, 0.006)
    assert conn.closed.triggered
    assert answer.value is LOST
    assert dial(machine, "y") == REFUSED


def test_a_power_cut_is_not_heard_of(machine) -> None:
    conn = dial(machine)
    machine.power_off("b")
    answer = conn.ask(lambda p: 1)
    run(machine, 300)
    assert not conn.closed.triggered
    assert not answer.triggered


def test_a_stopped_server_accepts_and_answers_when_it_goes_on(machine) -> None:
    machine.freeze("y")
    conn = dial(machine)
    answer = conn.ask(lambda p: 1)
    run(machine, 5)
    assert not answer.triggered
    machine.thaw("y")
    run(machine, 0.1)
    assert answer.value == 1


def test_after_a_partition_the_next_retransmit_gets_through(machine) -> None:
    conn = dial(machine)
    cut = machine.network.cut(["a"], ["b"])
    begun = machine.world.env.now
    answer = conn.ask(lambda p: 1)
    run(machine, 1.0)
    machine.network.heal(cut)
    machine.world.env.run(until=answer)
    # retransmits after 0.216, 0.648, 1.512 s
    assert (machine.world.env.now - begun) / NS == pytest.approx(1.512, abs=0.02)


def test_a_connect_into_silence_ends_with_its_timeout_or_a_later_syn(machine) -> None:
    cut = machine.network.cut(["a"], ["b"])
    assert dial(machine, timeout_s=2.0) == SILENT
    begun = machine.world.env.now
    event = machine.connect(machine.containers["x"].process, "y")
    run(machine, 1.5)
    machine.network.heal(cut)
    machine.world.env.run(until=event)
    assert (machine.world.env.now - begun) / NS == pytest.approx(2.05, abs=0.02)


def test_inner_processes_share_their_containers_fate(machine) -> None:
    assert machine.reach("x", "y.inner") == CONNECTS
    machine.exit(machine.containers["y.inner"].process, 1)
    assert machine.reach("x", "y.inner") == REFUSED
    assert machine.containers["y"].process.inbox[0][0] == "child"
    machine.exec("y.inner")
    run(machine, 0.01)
    machine.freeze("y")
    assert machine.containers["y.inner"].process.frozen
    machine.thaw("y")
    machine.exit(machine.containers["y"].process, 137)
    assert machine.containers["y.inner"].process is None
    assert machine.exec("y.inner") is None


def test_request_names_what_went_wrong(machine) -> None:
    p, seen = machine.containers["x"].process, []

    def ask(**limits):
        seen.append((yield from request(machine, p, "y", lambda q: 7, **limits)))

    machine.world.env.run(until=machine.world.spawn(ask(), "ask"))
    machine.freeze("y")
    machine.world.env.run(until=machine.world.spawn(ask(answer_s=2.0), "ask"))
    machine.thaw("y")
    machine.listen(machine.containers["y"].process, False)
    machine.world.env.run(until=machine.world.spawn(ask(), "ask"))
    assert seen == [("ok", 7), ("timeout", None), ("refused", None)]


def test_a_delay_meets_those_who_talk_for_the_first_time_and_ends_for_them_too(machine) -> None:
    cut = Cut(frozenset("a"), frozenset("b"))
    machine.network.delay(cut, 0.2, True)
    assert machine.one_way_s("x", "y") == pytest.approx(0.005 + 0.1)
    machine.network.delay(cut, 0.2, False)
    assert machine.one_way_s("x", "y") == pytest.approx(0.005)
