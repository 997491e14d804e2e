"""How long servers stayed in HAProxy's rotation after a fault, and how they came back.

Formulas: configuration manual of HAProxy, 5.2 (`inter`, `fall`, `rise`, `observe`) and 4.2
(`timeout check`); reference/haproxy.md section 1.6.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from hasim.causes_text import Cause, of_mark, place
from hasim.metrics_probes import DOWN, UP, down_marks, server_name, servers_of
from hasim.metrics_view import View
from hasim.model import Check, Server
from hasim.sim.trace import FaultSpan, Mark

# Health-check results that come only at the check's deadline; the others come at once.
LATE = ("L4TOUT", "L6TOUT", "L7TOUT", "Layer4 timeout", "Layer6 timeout", "Layer7 timeout")
# HAProxy's words for a server that `observe` and `on-error` took out, and for a drained one.
OBSERVED = "Health analyze"
DRAINS, DRAINED = "enters drain state", "(leaving forced drain)"
STARTED = "listening"
PLANNED = ("rolling-update", "reload")  # a server that never goes DOWN is as it should be
ROLES = ("postgres", "patroni", "redis")  # their checks ask for a role, not for health
SHOWN_S = 0.05  # shorter ones round to nothing


def server_lines(view: View) -> dict[str, tuple[str, Server]]:
    """`backend/server` -> (instance of its balancer, its line), of the first that has it."""
    out: dict[str, tuple[str, Server]] = {}
    for balancer in view.stack.balancers:
        for backend in balancer.backends:
            for server in backend.servers:
                out.setdefault(f"{backend.name}/{server.name}", (balancer.instance, server))
    return out


# ---- detection -------------------------------------------------------------------------------
def detection(view: View, fault: FaultSpan) -> list[Cause]:
    """How long each server that the fault hit stayed in rotation, split into its settings."""
    lines, starts = server_lines(view), dict(_started(view, fault))
    out = [_was_gone(view, fault, mark) for mark in starts.values()]
    first: dict[str, Mark] = {}
    for mark in down_marks(view, fault):
        first.setdefault(server_name(mark), mark)
    for name, mark in first.items():
        if name in lines:
            out += _stayed(view, lines[name][1], fault, mark, starts.get(mark.component))
    silent = set() if fault.do in PLANNED else servers_of(view, fault) - set(first)
    silent -= _out_before(view, fault)
    for name in sorted(silent):
        balancer, server = lines[name]
        if balancer not in starts and not _hit(view, fault, balancer):
            out.append(_never_down(view, server, fault))
    return out


def _out_before(view: View, fault: FaultSpan) -> set[str]:
    """Servers that got no requests when the fault came (a standby is DOWN for /primary)."""
    last = {
        server_name(m): bool(DOWN.match(m.event))
        for m in view.trace.timeline
        if m.t_s < fault.start_s and server_name(m)
    }
    return {name for name, down in last.items() if down}


def _started(view: View, fault: FaultSpan) -> Iterator[tuple[str, Mark]]:
    """Balancers that the fault took away: when each was there again for the first time."""
    for balancer in view.stack.balancers:
        for mark in view.trace.timeline:
            again = mark.event == STARTED and mark.component == balancer.instance
            if again and mark.t_s > fault.start_s and view.descends(mark, fault.mark):
                yield balancer.instance, mark
                break


def _hit(view: View, fault: FaultSpan, instance: str) -> bool:
    """Did the fault hit this instance or its host?"""
    hit, known = view.hit(fault), view.instances.get(instance)
    return instance in hit or (known is not None and known.host in hit)


def _was_gone(view: View, fault: FaultSpan, back: Mark) -> Cause:
    """HAProxy itself was down."""
    gone = back.t_s - fault.start_s
    text = f"{back.component} itself was down for {gone:.1f} s"
    if fault.start_s < fault.repair_s < back.t_s:
        to_repair = fault.repair_s - fault.start_s
        text += f": {to_repair:.1f} s until the repair, {gone - to_repair:.1f} s until it listened"
    known = view.instances.get(back.component)
    return Cause(text, span=known.span if known else None, seconds=gone)


def _stayed(
    view: View, server: Server, fault: FaultSpan, down: Mark, started: Mark | None
) -> list[Cause]:
    """One sentence; none about a server that got no requests when it was called DOWN."""
    since, what = fault.start_s, ""
    if started is not None and started.t_s <= down.t_s:
        since = started.t_s
        what = f" after {down.component} began: a new process takes each server for UP"
    else:
        turn = _turn_s(view, down)
        drained, ended = _drain(view, down, turn)
        if drained:
            return []
        since = max(since, turn)
        if ended > since:
            since, what = ended, " after its drain was ended"
            if _listened_s(view, server, turn, down.t_s) < turn:
                what += ", before it listened"
    stay = down.t_s - since
    if what and stay < SHOWN_S:
        return []
    start = f"{server.name} stayed in rotation {stay:.1f} s{what}"
    if server.check is None:
        return [Cause(start, span=of_mark(down), seconds=stay)]
    if OBSERVED in down.detail:
        span, note = place(server.where, "observe", fallback=server.span)
        text = f"{start}: {_observed(server, server.check)}{note}"
        return [Cause(text, span=span, seconds=stay)]
    check = server.check
    formula = "" if what else detection_formula(check, stay, down.detail)
    span, note = place(check.where, "inter_s", "inter", fallback=server.span)
    text = f"{start}{formula}: {settings(check, down.detail)}{note}"
    return [Cause(text, span=span, seconds=stay)]


def _turn_s(view: View, mark: Mark) -> float:
    """When a rolling update came to the instance that the mark is about; -inf without one."""
    at, seen = view.marks.get(mark.parent), {mark.id}
    while at is not None and at.id not in seen:
        if at.component == "rolling-update" and at.event == "Updating":
            return at.t_s
        seen.add(at.id)
        at = view.marks.get(at.parent)
    return -math.inf


def _drain(view: View, down: Mark, since_s: float) -> tuple[bool, float]:
    """(was the server being drained when it went DOWN, when its last drain ended or -inf)."""
    name, drained, ended = server_name(down), False, -math.inf
    for mark in view.trace.timeline:
        if since_s <= mark.t_s <= down.t_s and mark.id < down.id and f" {name} " in mark.event:
            if mark.event.endswith(DRAINS):
                drained = True
            elif mark.event.endswith(DRAINED):
                drained, ended = False, mark.t_s
    return drained, ended


def _observed(server: Server, check: Check) -> str:
    """`10 errors in a row of its requests, observe layer4, on-error mark-down`."""
    text = f"{server.error_limit} errors in a row of its requests, observe {server.observe}"
    fall = f", fall {check.fall}" if server.on_error == "fail-check" else ""
    return f"{text}, on-error {server.on_error}{fall}"


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
        by_connect = "L4TOUT" in detail or "Layer4 timeout" in detail
        if check.timeout_check_s is None:
            words.append("no timeout check")
        elif by_connect and check.timeout_connect_s < check.inter_s:
            words.append(f"timeout connect {check.timeout_connect_s * 1000:.0f}")
        elif not by_connect:
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


# ---- checks that ask others --------------------------------------------------------------------
def shared_checks(view: View, fault: FaultSpan) -> Iterator[Cause]:
    """Healthy servers that went DOWN because their health URL asks what the fault hit."""
    lines = server_lines(view)
    found: dict[tuple[str, str, str, str], dict[str, Mark]] = {}
    for mark in _downs(view, fault):
        balancer, server = lines.get(server_name(mark), ("", None))
        if server is None or server.check is None or OBSERVED in mark.detail:
            continue
        asked = _asked(view, fault, server)
        if asked and not _hit(view, fault, server.instance):
            backend = server_name(mark).rpartition("/")[0]
            key = (mark.component or balancer, backend, server.check.url, asked)
            found.setdefault(key, {}).setdefault(server.name, mark)
    for (balancer, backend, url, asked), downs in found.items():
        first = next(iter(downs.values()))
        check = lines[server_name(first)][1].check
        assert check is not None
        span, note = place(check.where, "url", "kind", fallback=of_mark(first))
        times = [m.t_s - fault.start_s for m in downs.values()]
        when = f"{min(times):.1f} to {max(times):.1f} s" if len(times) > 1 else f"{times[0]:.1f} s"
        text = f"{balancer} took {', '.join(downs)} of {backend} out {when} after the fault"
        text += (
            f", alive as {'they were' if len(downs) > 1 else 'it was'}: {url} asks {asked}{note}"
        )
        empty_s = _empty_s(view, balancer, backend, fault)
        text += f"; no server of {backend} was left for {empty_s:.1f} s" if empty_s else ""
        yield Cause(text, span, empty_s or max(times))


def _downs(view: View, fault: FaultSpan) -> list[Mark]:
    """DOWN rows between this fault and the next one, while it lasts."""
    later = [f.start_s for f in view.faults if f.start_s > fault.start_s]
    until = min([*later, fault.repair_s], default=math.inf)
    until = math.inf if math.isnan(until) else until
    return [
        m for m in view.trace.timeline if DOWN.match(m.event) and fault.start_s <= m.t_s < until
    ]


def _asked(view: View, fault: FaultSpan, server: Server) -> str:
    """What the server's health URL asks of others, as `database, store`: what was hit, if known."""
    instance, check = view.instances.get(server.instance), server.check
    service = next(
        (s for s in view.stack.services if instance is not None and s.name == instance.service),
        None,
    )
    if service is None or check is None:
        return ""
    needs = next((h.needs for h in service.health if h.url == check.url.split("?")[0]), ())
    hit = view.hit(fault)
    names = {
        name
        for i in view.stack.instances
        if hit & {i.name, i.inside, i.host, i.compose_service}
        for name in (i.name, i.service, i.inside)
    }
    struck = [n for n in needs if n in names]
    return ", ".join(struck or needs)


def _empty_s(view: View, balancer: str, backend: str, fault: FaultSpan) -> float:
    """How long the backend had no server at all, the first time after the fault; else 0."""
    empty = f"backend {backend} has no server available!"
    since = math.inf
    for mark in view.trace.timeline:
        if mark.component != balancer or mark.t_s < fault.start_s:
            continue
        if mark.event == empty:
            since = min(since, mark.t_s)
        mine = server_name(mark).startswith(f"{backend}/") and UP.match(mark.event)
        if mine and mark.t_s >= since:
            return mark.t_s - since
    return view.trace.duration_s - since if math.isfinite(since) else 0.0


# ---- return ----------------------------------------------------------------------------------
def return_to_rotation(view: View, fault: FaultSpan) -> list[Cause]:
    """How long after the repair each server took part again, or why it never did."""
    out, lines = [], server_lines(view)
    for name in dict.fromkeys(server_name(m) for m in down_marks(view, fault)):
        if name not in lines:
            continue
        ups = [
            m
            for m in view.trace.timeline
            if UP.match(m.event) and server_name(m) == name and m.t_s >= fault.repair_s - 1e-9
        ]
        out.append(_came_back(view, name, lines[name][1], fault, ups[0] if ups else None))
    return [c for c in out if c is not None]


def _came_back(
    view: View, name: str, server: Server, fault: FaultSpan, up: Mark | None
) -> Cause | None:
    check = server.check
    if check is None or _up_before_repair(view, name, fault):
        return None
    if up is not None:
        took = up.t_s - fault.repair_s
        text = f"{server.name} was back in rotation {took:.1f} s after the repair: "
        boot = _listened_s(view, server, fault.repair_s, up.t_s) - fault.repair_s
        if boot >= SHOWN_S:
            text += f"{boot:.1f} s until it listened, then {took - boot:.1f} s: "
        span, note = place(check.where, "rise", fallback=server.span)
        words = [f"rise {check.rise}{note}", f"inter {check.inter_s * 1000:.0f}"]
        for word, gap_s in (("fastinter", check.fastinter_s), ("downinter", check.downinter_s)):
            if gap_s != check.inter_s:
                words.append(f"{word} {gap_s * 1000:.0f}")
        return Cause(text + ", ".join(words), span=span, seconds=took)
    behind = view.instances.get(server.instance)
    if behind is not None and behind.kind in ROLES:
        return None  # it came back in another role, or the data tier's own rows say why not
    late = max(view.trace.duration_s - fault.repair_s, 0.0)
    text = f"{server.name} never came back in the {late:.0f} s after the repair"
    moves = fault.do not in ("pause", "blackhole", "partition", "slow", "unhealthy")
    if moves and not server.resolvers and server.reach in ("bridge", "overlay"):
        text += ": without resolvers its name is resolved only at start, and its address may be new"
    return Cause(text, span=server.span, seconds=late)


def _listened_s(view: View, server: Server, since_s: float, until_s: float) -> float:
    """When the server's process last began to listen between the two; else -inf."""
    times = [
        m.t_s
        for m in view.trace.timeline
        if (m.event, m.component) == (STARTED, server.instance) and since_s < m.t_s <= until_s
    ]
    return max(times, default=-math.inf)


def _up_before_repair(view: View, name: str, fault: FaultSpan) -> bool:
    """Did its last change before the repair bring it UP?"""
    changes = [
        m
        for m in view.trace.timeline
        if server_name(m) == name and fault.start_s <= m.t_s < fault.repair_s
    ]
    return bool(changes) and not DOWN.match(changes[-1].event)
