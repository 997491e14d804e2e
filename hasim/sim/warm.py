"""Compile every kernel entry point once, on a stack of one server."""

from __future__ import annotations

import numpy as np

from hasim.model import Dist, Host, Instance, Op, Route, Service, Stack, Step
from hasim.scenario import FlowStep, Load, Scenario
from hasim.sim import arrays
from hasim.sim.kernel import commands
from hasim.sim.kernel.loop import advance
from hasim.sim.programs import compile_stack


def compile_all() -> None:
    """Run each command once with the types that the engine uses; results are thrown away."""
    service = Service("s", ops=(Op("o", (Step("cpu", Dist("exp", 0.01)),)),))
    stack = Stack(
        "warm", "warm", "", (), (Host("h", 1.0, 1 << 30),), (),
        (Instance("i", "service", "h", "s"),), (service,), (), (), {},
        op_entries={"s/o": Route("address", "", "", "", "s")},
    )  # fmt: skip
    load = Load("l", "constant-vus", ((1.0, 1.0),), 1.0, flow=(FlowStep((("s/o", 1.0),)),))
    scenario = Scenario("warm", "", load)
    tables = compile_stack(stack)
    arrays.load_rows(tables, scenario)
    k = arrays.build(tables, scenario, 1, 0, False)
    k, nodes = arrays.start_load(k, tables, scenario, 0)
    commands.uniform(k, 0, 1)
    commands.count_all(k)
    commands.set_weight(k, 0, 16)
    commands.set_connect(k, 0, 0)
    commands.start_node(k, nodes[0][0], 0)
    commands.submit_check(k, 0, -1, 0, 10, 10, 0)
    commands.start_repeat(k, 0, 50)
    commands.stop_repeat(k, 0)
    k.repeats[0]["slot"] = 0
    commands.adopt_check(k, 0, 1, 20, 20, 0)
    advance(k, 100)
    k.g[2] = 0
    for call, args in (
        (commands.crash, (0,)), (commands.freeze, (0,)), (commands.thaw, (0,)),
        (commands.close_idle, (0,)), (commands.set_speed, (0, 1.0)),
        (commands.set_rotation, (0, 1, 1)), (commands.set_maxconn, (0, 0)),
        (commands.shutdown_sessions, (0,)), (commands.freeze_balancer, (0,)),
        (commands.thaw_balancer, (0,)), (commands.crash_balancer, (0, False)),
        (commands.open_segment, (1,)), (commands.charge_all, ()), (commands.close_books, ()),
    ):  # fmt: skip
        call(k, *args)
    k.gens[1]["number"] = np.int64(0)
    commands.start_arrivals(k, 1)
