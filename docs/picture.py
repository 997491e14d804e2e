"""Draw the pictures of the README: a gateway hangs, and the primary's host loses power.

usage: python docs/picture.py        writes docs/gateway-pause.png and docs/failover.png
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hasim.bind import load_scenarios
from hasim.sim.run import replicate, warm_up

ROOT = Path(__file__).parent.parent
SEED = 20260101
BLUE, ORANGE = "#0072b2", "#d55e00"  # colour-blind safe (Okabe and Ito)


def traces():
    """(title, trace) of the same load and fault on both stacks."""
    guide, stack = load_scenarios(ROOT / "models/story-portal-guide-bootable/scenarios.yaml")
    scenario = next(s for s in guide.scenarios if s.name == "gateway-pause")
    yield "the guide's timeouts", replicate(stack, scenario, SEED, 0)
    _, repaired = load_scenarios(ROOT / "scenarios.yaml")
    short = {name.partition("/")[2]: name for name in repaired.op_entries}
    flow = []
    for step in scenario.load.flow:
        mix = tuple((short.get(op.partition("/")[2], op), w) for op, w in step.mix)
        flow.append(replace(step, mix=mix))
    scenario = replace(scenario, load=replace(scenario.load, flow=tuple(flow)))
    yield "the repaired stack", replicate(repaired, scenario, SEED, 0)


# What the daemons say on the way, in the order of the timeline: (component, event, label).
STEPS = (
    ("", "promoted self to leader", "Patroni: lock"),
    ("", "ready to accept connections", "PostgreSQL: writable"),
    ("haproxy", "Server postgres-rw/", "HAProxy: primary UP"),
)


def failover() -> None:
    """Writes and cached reads of the repaired stack while a new primary is found."""
    file, stack = load_scenarios(ROOT / "scenarios.yaml")
    scenario = next(s for s in file.scenarios if s.name == "postgres-primary-power-off")
    trace = replicate(stack, scenario, SEED, 0)
    figure = Figure(figsize=(8, 3.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    fault = trace.faults[0]
    ax.axvspan(fault.start_s, fault.repair_s, color="0.9", lw=0)
    for op, color in (("publish", ORANGE), ("session", BLUE)):
        path = trace.ops.index(f"l09-api-gateway/{op}")
        ok = np.convolve(trace.per_second["ok"][:, path], np.ones(5) / 5, "same")
        words = "written to PostgreSQL" if op == "publish" else "written to Redis"
        ax.plot(ok, color=color, label=f"{op}: {words}")
    after, top = fault.start_s, 1.5 * ax.get_ylim()[1]
    for number, (component, event, label) in enumerate(STEPS):
        marks = [m for m in trace.timeline if m.t_s > after and event in m.event]
        marks = [m for m in marks if m.component.startswith(component) and "DOWN" not in m.event]
        if marks:
            after = marks[0].t_s
            ax.axvline(after, color="0.3", lw=1, ls="--")
            text = f"{label} +{after - fault.start_s:.1f} s"
            ax.text(after + 1, top * (0.93 - 0.08 * number), text, fontsize=8, color="0.3")
    ax.set_title("the host of the PostgreSQL primary loses power", loc="left", fontsize=10)
    ax.set_ylabel("answered requests/s (mean of 5 s)")
    ax.set_xlabel("seconds; shaded: the host is off")
    ax.set_ylim(0, top)
    ax.set_xlim(max(0.0, fault.start_s - 30), fault.start_s + 120)
    ax.legend(loc="upper left", fontsize=8, frameon=False)
    figure.savefig(ROOT / "docs" / "failover.png", metadata={"Software": None})


def main() -> None:
    """Write the pictures."""
    warm_up(print)
    failover()
    figure = Figure(figsize=(8, 4.2), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 1, sharex=True, sharey=True)
    for ax, (title, trace) in zip(axes, traces(), strict=True):
        ok = trace.per_second["ok"].sum(axis=1)
        failed = trace.per_second["failed"].sum(axis=1)
        t = np.arange(len(ok))
        fault = trace.faults[0]
        ax.axvspan(fault.start_s, fault.repair_s, color="0.9", lw=0)
        ax.step(t, ok, where="post", color=BLUE, label="answered")
        ax.step(t, failed, where="post", color=ORANGE, label="failed")
        marks = [m for m in trace.timeline if "is DOWN" in m.event and m.t_s > fault.start_s]
        if marks:
            ax.axvline(marks[0].t_s, color="0.3", lw=1, ls="--")
            ax.text(marks[0].t_s + 1, 5, "HAProxy: DOWN", fontsize=8, color="0.3")
        ax.set_title(f"{title}: one of three gateways hangs", loc="left", fontsize=10)
        ax.set_ylabel("requests/s")
        ax.set_xlim(90, 240)
        ax.set_ylim(0, None)
    axes[0].legend(loc="lower right", fontsize=8, frameon=False)
    axes[1].set_xlabel("seconds; shaded: the gateway is stopped (SIGSTOP)")
    figure.savefig(ROOT / "docs" / "gateway-pause.png", metadata={"Software": None})


if __name__ == "__main__":
    main()
