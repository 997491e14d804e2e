"""Compile the kernel by one call on a stack of one server."""

from __future__ import annotations

from hasim.model import Dist, Host, Instance, Op, Route, Service, Stack, Step
from hasim.scenario import FlowStep, Load, Scenario
from hasim.sim import arrays
from hasim.sim.kernel import door
from hasim.sim.programs import compile_stack


def compile_all() -> None:
    """Make or load the machine code of the data plane."""
    service = Service("s", ops=(Op("o", (Step("cpu", Dist("exp", 0.01)),)),))
    stack = Stack(
        "warm", "warm", "", (), (Host("h", 1.0, 1 << 30),), (),
        (Instance("i", "service", "h", "s"),), (service,), (), (), {},
        op_entries={"s/o": Route("address", "", "", "", "s")},
    )  # fmt: skip
    load = Load("l", "constant-vus", ((1.0, 1.0),), 1.0, flow=(FlowStep((("s/o", 1.0),)),))
    tables = compile_stack(stack)
    scenario = Scenario("warm", "", load)
    arrays.load_rows(tables, scenario)
    door.advance(arrays.build(tables, scenario, 1, 0, False), 0)


if __name__ == "__main__":
    compile_all()
