"""Draw the pictures of the README: a gateway hangs, and the primary's host loses power.

usage: python docs/picture.py        writes docs/gateway-pause.png and docs/failover.png
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from hasim.bind import load_scenarios
from hasim.report import style
from hasim.sim.run import replicate, warm_up

ROOT = Path(__file__).parent.parent
SEED = 20260101


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


@style.used()
def failover() -> None:
    """Writes and cached reads of the repaired stack while a new primary is found."""
    file, stack = load_scenarios(ROOT / "scenarios.yaml")
    scenario = next(s for s in file.scenarios if s.name == "postgres-primary-power-off")
    trace = replicate(stack, scenario, SEED, 0)
    figure, (ax,) = style.figure(8, 3.4)
    fault = trace.faults[0]
    style.shade_faults(ax, [fault])
    for op, color in (("publish", style.FAILED), ("session", style.OK)):
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
            ax.axvline(after, color=style.INK, lw=1, ls="--")
            text = f"{label} +{after - fault.start_s:.1f} s"
            ax.text(after + 1, top * (0.93 - 0.08 * number), text, fontsize=8, color=style.INK)
    ax.set_title("the host of the PostgreSQL primary loses power")
    ax.set_ylabel("answered requests/s (mean of 5 s)")
    ax.set_xlabel("seconds; shaded: the host is off")
    ax.set_ylim(0, top)
    ax.set_xlim(max(0.0, fault.start_s - 30), fault.start_s + 120)
    ax.legend(loc="upper left")
    (ROOT / "docs" / "failover.png").write_bytes(style.png(figure))


@style.used()
def gateway_pause() -> None:
    """What users get while one of three gateways hangs, with the guide's timeouts and with ours."""
    figure, axes = style.figure(8, 4.2, rows=2)
    for ax, (title, trace) in zip(axes, traces(), strict=True):
        ok = trace.per_second["ok"].sum(axis=1)
        failed = trace.per_second["failed"].sum(axis=1)
        t = np.arange(len(ok))
        fault = trace.faults[0]
        style.shade_faults(ax, [fault])
        ax.step(t, ok, where="post", color=style.OK, label="answered")
        ax.step(t, failed, where="post", color=style.FAILED, label="failed")
        marks = [m for m in trace.timeline if "is DOWN" in m.event and m.t_s > fault.start_s]
        if marks:
            ax.axvline(marks[0].t_s, color=style.INK, lw=1, ls="--")
            ax.text(marks[0].t_s + 1, 5, "HAProxy: DOWN", fontsize=8, color=style.INK)
        ax.set_title(f"{title}: one of three gateways hangs")
        ax.set_ylabel("requests/s")
        ax.set_xlim(90, 240)
        ax.set_ylim(0, None)
    axes[0].legend(loc="lower right")
    axes[1].set_xlabel("seconds; shaded: the gateway is stopped (SIGSTOP)")
    (ROOT / "docs" / "gateway-pause.png").write_bytes(style.png(figure))


def main() -> None:
    """Write the pictures."""
    warm_up(print)
    failover()
    gateway_pause()


if __name__ == "__main__":
    main()
