"""Why it took so long and where the time went: sentences that end in file:line:col.

Read from the timeline of one replication (who noticed what, and when) and from the settings that
were in force.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from hasim.causes_alerts import alert_causes, loss_causes
from hasim.causes_data import failover_causes
from hasim.causes_requests import waits
from hasim.causes_rotation import detection, return_to_rotation, shared_checks
from hasim.causes_text import Cause, of_mark, place
from hasim.metrics_view import View
from hasim.model import Stack
from hasim.scenario import Scenario
from hasim.sim.trace import FaultSpan, Trace
from hasim.source import Origin

__all__ = ["Cause", "boot_causes", "explain"]

MOST = 16


def explain(scenario: Scenario, stack: Stack, trace: Trace) -> tuple[Cause, ...]:
    """What went wrong in this replication, the order being that of events; at most MOST."""
    if trace.void:
        return boot_causes(stack, trace)
    view = View(trace, scenario, stack)
    out: list[Cause] = list(boot_causes(stack, trace))
    for fault in view.faults:
        out += failover_causes(view, fault)
    out += [*loss_causes(view), *alert_causes(view)]
    for fault in view.faults:
        out += [*detection(view, fault), *shared_checks(view, fault)]
    out += waits(view)
    for fault in view.faults:
        if math.isnan(fault.repair_s):
            out += _not_restarted(view, fault)
        else:
            out += return_to_rotation(view, fault)
    return tuple(dict.fromkeys(out))[:MOST]


def boot_causes(stack: Stack, trace: Trace) -> tuple[Cause, ...]:
    """Instances that did not come up, with the line that says why."""
    seen = [m for m in trace.timeline if m.event == "did not boot"]
    out = [Cause(f"{m.component} did not boot: {m.detail}", span=of_mark(m)) for m in seen]
    told = {m.component for m in seen}
    for failure in stack.boot_failures:
        if failure.instance not in told:
            text = f"{failure.instance} did not boot: {failure.reason}"
            out.append(Cause(text, span=failure.span))
    return tuple(out)


def _not_restarted(view: View, fault: FaultSpan) -> list[Cause]:
    """A dead process that nothing starts again."""
    out = []
    for name in sorted(view.hit(fault)):
        instance = view.instances.get(name)
        if instance is not None and fault.do == "crash" and instance.restart == "no":
            where: Mapping[str, Origin] = instance.where
            span, note = place(where, "restart", fallback=instance.span)
            text = f"{instance.name} was not started again: restart policy no"
            out.append(Cause(text + note, span=span))
    return out
