"""Why it took so long and where the time went: sentences that end in file:line:col.

Read from the timeline of one replication (who noticed what, and when) and from the settings that
were in force. Formulas: reference manual of HAProxy, "Health checks" and "timeout" keywords.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from hasim.causes_requests import waits
from hasim.causes_text import Cause, place
from hasim.metrics_probes import DOWN, UP, down_marks, server_name, servers_of
from hasim.metrics_view import View
from hasim.model import Backend, Check, Server, Stack
from hasim.scenario import Scenario
from hasim.sim.trace import FaultSpan, Mark, Trace
from hasim.source import Origin, Span

__all__ = ["Cause", "boot_causes", "explain"]

# Health-check results that come only at the check's deadline; the others come at once.
LATE = ("L4TOUT", "L6TOUT", "L7TOUT", "Layer4 timeout", "Layer6 timeout", "Layer7 timeout")
MOST = 12


def explain(scenario: Scenario, stack: Stack, trace: Trace) -> tuple[Cause, ...]:
    """What went wrong in this replication, the order being that of events; at most MOST."""
    if trace.void:
        return boot_causes(stack, trace)
    view = View(trace, scenario, stack)
    out: list[Cause] = list(boot_causes(stack, trace))
    for fault in view.faults:
        out += _detection(view, fault)
    out += waits(view)
    for fault in view.faults:
        out += _return(view, fault)
    return tuple(dict.fromkeys(out))[:MOST]


def boot_causes(stack: Stack, trace: Trace) -> tuple[Cause, ...]:
    """Instances that did not come up, with the line that says why."""
    seen = [m for m in trace.timeline if m.event == "did not boot"]
    out = [Cause(f"{m.component} did not boot: {m.detail}", span=_of_mark(m)) for m in seen]
    told = {m.component for m in seen}
    for failure in stack.boot_failures:
        if failure.instance not in told:
            text = f"{failure.instance} did not boot: {failure.reason}"
            out.append(Cause(text, span=failure.span))
    return tuple(out)


def _of_mark(mark: Mark) -> Span | None:
    return Span(mark.file, mark.line, mark.col) if mark.file else None


def server_lines(view: View) -> dict[str, tuple[Backend, Server]]:
    """`backend/server` -> its two objects (of the first balancer that has it)."""
    out: dict[str, tuple[Backend, Server]] = {}
    for balancer in view.stack.balancers:
        for backend in balancer.backends:
            for server in backend.servers:
                out.setdefault(f"{backend.name}/{server.name}", (backend, server))
    return out


# ---- detection -------------------------------------------------------------------------------
def _detection(view: View, fault: FaultSpan) -> list[Cause]:
    """How long each server that the fault hit stayed in rotation, split into its settings."""
    out, lines = [], server_lines(view)
    first: dict[str, Mark] = {}
    for mark in down_marks(view, fault):
        first.setdefault(server_name(mark), mark)
    for name, mark in first.items():
        if name in lines:
            out.append(_stayed(lines[name][1], fault, mark))
    for name in sorted(servers_of(view, fault) - set(first)):
        out.append(_never_down(view, lines[name][1], fault))
    return out


def _stayed(server: Server, fault: FaultSpan, down: Mark) -> Cause:
    stay = down.t_s - fault.start_s
    start = f"{server.name} stayed in rotation {stay:.1f} s"
    if server.check is None:
        return Cause(start, span=_of_mark(down), seconds=stay)
    check = server.check
    formula = detection_formula(check, stay, down.detail)
    span, note = place(check.where, "inter_s", "inter", fallback=server.span)
    text = f"{start}{formula}: {settings(check, down.detail)}{note}"
    return Cause(text, span=span, seconds=stay)


def failing_check_s(check: Check, detail: str) -> float:
    """How long one failing check takes: 0 when refused or answered, else its deadline."""
    if not any(word in detail for word in LATE):
        return 0.0
    if check.timeout_check_s is None:
        return check.inter_s
    if "L4TOUT" in detail or "Layer4 timeout" in detail:
        return min(check.inter_s, check.timeout_connect_s)
    return check.timeout_check_s


def detection_formula(check: Check, stay_s: float, detail: str) -> str:
    """` = (2.0 - 1.1) s + 3 x 2.0 s + 2 x 2.0 s`, or nothing if the parts do not add up.

    detect = (inter - phase) + fall x failing check + (fall - 1) x fastinter, where phase is the
    age of the last good check at the fault (measured; reference/haproxy.md section 1.6).
    """
    inter, fast, fall = check.inter_s, check.fastinter_s, check.fall
    late = failing_check_s(check, detail)
    phase = inter - (stay_s - fall * late - (fall - 1) * fast)
    if not -0.05 <= phase <= inter + 0.05:
        return ""
    parts = [f"({inter:.1f} - {max(phase, 0.0):.1f}) s"]
    if late > 0:
        parts.append(f"{fall} x {late:.1f} s")
    if fall > 1:
        parts.append(f"{fall - 1} x {fast:.1f} s")
    return " = " + " + ".join(parts)


def settings(check: Check, detail: str) -> str:
    """`inter 2000, fall 3, no timeout check`: what the formula was made of."""
    words = [f"inter {check.inter_s * 1000:.0f}"]
    if check.fastinter_s != check.inter_s:
        words.append(f"fastinter {check.fastinter_s * 1000:.0f}")
    words.append(f"fall {check.fall}")
    if any(word in detail for word in LATE):
        if check.timeout_check_s is None:
            words.append("no timeout check")
        else:
            words.append(f"timeout check {check.timeout_check_s * 1000:.0f}")
    return ", ".join(words)


def _never_down(view: View, server: Server, fault: FaultSpan) -> Cause:
    """A server that the fault hit and that HAProxy never took out."""
    end = view.trace.duration_s if math.isnan(fault.repair_s) else fault.repair_s
    stay = max(end - fault.start_s, 0.0)
    if server.check is None:
        text = f"{server.name} stayed in rotation {stay:.1f} s: its line has no check"
        return Cause(text, span=server.span, seconds=stay)
    check = server.check
    what = check.url if check.kind == "http" else "the port"
    text = (
        f"{server.name} was never taken out in {stay:.1f} s: the check of {what} "
        f"did not fail {check.fall} times in a row"
    )
    span, note = place(check.where, "url", "kind", "inter_s", fallback=server.span)
    return Cause(text + note, span=span, seconds=stay)


# ---- return ----------------------------------------------------------------------------------
def _return(view: View, fault: FaultSpan) -> list[Cause]:
    """How long after the repair each server took part again, or why it never did."""
    if math.isnan(fault.repair_s):
        return _not_restarted(view, fault)
    out, lines = [], server_lines(view)
    for name in dict.fromkeys(server_name(m) for m in down_marks(view, fault)):
        if name not in lines:
            continue
        ups = [
            m.t_s
            for m in view.trace.timeline
            if UP.match(m.event) and server_name(m) == name and m.t_s >= fault.repair_s - 1e-9
        ]
        out.append(_came_back(view, lines[name][1], fault, min(ups, default=math.inf)))
    return [c for c in out if c is not None]


def _came_back(view: View, server: Server, fault: FaultSpan, up_s: float) -> Cause | None:
    check = server.check
    if check is None or _up_before_repair(view, server, fault):
        return None
    took = up_s - fault.repair_s
    if math.isfinite(took):
        span, note = place(check.where, "rise", fallback=server.span)
        text = (
            f"{server.name} was back in rotation {took:.1f} s after the repair: "
            f"rise {check.rise}{note}, inter {check.inter_s * 1000:.0f}"
        )
        return Cause(text, span=span, seconds=took)
    late = max(view.trace.duration_s - fault.repair_s, 0.0)
    text = f"{server.name} never came back in the {late:.0f} s after the repair"
    moves = fault.do not in ("pause", "blackhole", "partition", "slow", "unhealthy")
    if moves and not server.resolvers and server.reach in ("bridge", "overlay"):
        text += ": without resolvers its name is resolved only at start, and its address may be new"
    return Cause(text, span=server.span, seconds=late)


def _up_before_repair(view: View, server: Server, fault: FaultSpan) -> bool:
    """Did its last change before the repair bring it UP?"""
    changes = [
        m
        for m in view.trace.timeline
        if server_name(m).rpartition("/")[2] == server.name
        and fault.start_s <= m.t_s < fault.repair_s
    ]
    return bool(changes) and not DOWN.match(changes[-1].event)


def _not_restarted(view: View, fault: FaultSpan) -> list[Cause]:
    """A dead process that nothing starts again."""
    instance = view.instances.get(fault.target)
    if instance is None or fault.do not in ("crash", "kill") or instance.restart != "no":
        return []
    where: Mapping[str, Origin] = instance.where
    span, note = place(where, "restart", fallback=instance.span)
    text = f"{instance.name} was not started again: restart policy no"
    return [Cause(text + note, span=span)]
