"""advance(): process events up to a limit, in (time, sequence) order."""

from __future__ import annotations

from hasim.sim.kernel import layout as L
from hasim.sim.kernel.answer import (
    REPEATED,
    answer,
    check_result,
    count_term,
    leave_frontend,
    notice,
)
from hasim.sim.kernel.calendar import adapt, arm, next_ready, pop, ready, remove
from hasim.sim.kernel.checks import repeat_event
from hasim.sim.kernel.conns import abandon, detach, reply
from hasim.sim.kernel.cpu import count_thread, cpu_event
from hasim.sim.kernel.layout import jit
from hasim.sim.kernel.path import (
    attempt,
    balancer_frozen,
    connect_failed,
    cut,
    dial,
    done,
    replay,
    resend,
    route,
    sent,
)
from hasim.sim.kernel.place import observe, release
from hasim.sim.kernel.pools import note_wait, pool_event
from hasim.sim.kernel.users import (
    admitted,
    enter,
    entry_event,
    generator_event,
    reply_entry,
    user_event,
)
from hasim.sim.kernel.work import RTO, after_call, after_cpu, grant, hold, run
from hasim.sim.trace import APP_5XX, HTTP_503, HTTP_504, TIMEOUT

SAME_INSTANT_LIMIT = 1_000_000
SPARE_SLOTS = 16


@jit
def go_on(k, s):
    """Slot s is ready: its next move in this instant."""
    slot = k.slots[s]
    phase = slot.phase
    if phase in (L.RUN, L.GRANT, L.RETURN):
        if k.stations[slot.st].frozen:
            hold(k, s, phase)
        elif phase == L.GRANT:
            grant(k, s)
        elif phase == L.RUN:
            after_cpu(k, s)
            run(k, s)
        else:
            after_call(k, s)
        return
    if phase == L.ENTER:
        enter(k, s)
        return
    if balancer_frozen(k, s):
        hold(k, s, phase)
    elif phase == L.ROUTE:
        route(k, s, slot.edge)
    elif phase == L.DONE:
        done(k, s)
    elif phase == L.DIAL:
        dial(k, s)
    elif phase == L.FAIL:
        connect_failed(k, s, False)
    elif phase == L.CUT:
        cut(k, s)
    elif phase == L.ADMITTED_IN:
        admitted(k, s)
    elif phase != L.FREE:
        k.g[L.BUG] = 2


@jit
def slot_event(k, s):
    """A timer of slot s is due: the client's deadline, HAProxy's, or that of its phase."""
    slot = k.slots[s]
    now = k.g[L.NOW]
    if slot.t_cli <= now:
        client_gone(k, s)
    elif slot.t_hap <= now:
        if slot.phase != L.ENTRY and balancer_frozen(k, s):
            slot.flags |= L.HAPDUE
            slot.t_hap = L.FOREVER
            arm(k, s)
        else:
            deadline(k, s)
    else:
        slot.t_phase = L.FOREVER
        timer(k, s)


@jit
def timer(k, s):
    """The phase timer of slot s."""
    slot = k.slots[s]
    phase = slot.phase
    if phase == L.CPU:
        if not slot.flags & L.PROBE:
            count_thread(k, slot.st, -1)
        if k.stations[slot.st].frozen:
            hold(k, s, L.RUN)
        else:
            after_cpu(k, s)
            run(k, s)
    elif phase in (L.IO, L.COMMIT):
        if k.stations[slot.st].frozen:
            hold(k, s, L.RUN)
        else:
            run(k, s)
    elif phase == L.POOL:
        remove(k, s)
        note_wait(k, s, slot.pool)
        slot.outcome = APP_5XX
        ready(k, s, L.RETURN)
    elif phase == L.ENTRY:
        entry_event(k, s)
    elif phase == L.BACKOFF:
        slot.t_cli = k.g[L.NOW] + k.g[L.CLIENT_TIMEOUT]
        ready(k, s, L.ENTER)
    elif phase == L.RESP:
        if k.edges[slot.edge].connect >= 2:
            slot.trynum += 1
            slot.t_phase = k.g[L.NOW] + (RTO << min(slot.trynum, 10))
            arm(k, s)
        else:
            ready(k, s, L.DONE)
    elif phase in (L.ARP, L.TURN) and balancer_frozen(k, s):
        # HAProxy's own timers fire when it runs again; TCP goes on without it
        if phase == L.ARP:
            hold(k, s, L.FAIL)
        else:
            hold(k, s, L.DIAL if slot.trynum >= 0 else L.ROUTE)
    elif phase == L.CONN:
        sent(k, s)
    elif phase == L.SYN:
        attempt(k, s)
    elif phase == L.SEND:
        resend(k, s)
    elif phase == L.ARP:
        connect_failed(k, s, False)
    elif phase == L.TURN:
        if slot.trynum >= 0:  # it has kept its server
            dial(k, s)
        else:
            route(k, s, slot.edge)
    else:
        k.g[L.BUG] = 3


@jit
def client_gone(k, s):
    """The caller's own timeout: it goes on without an answer, HAProxy and the server may not."""
    slot = k.slots[s]
    phase = slot.phase
    slot.t_cli = L.FOREVER
    early = phase in (L.ENTRY, L.ADMIT, L.BACKOFF)
    if early:
        remove(k, s)
    if answer(k, s, TIMEOUT, early):
        return
    b = k.backends[slot.be]
    lost = phase == L.LOST and not slot.flags & L.SLOTTED  # its HAProxy is dead too
    if slot.conn >= 0 and b.tcp and not (early or lost or b.abortonclose):
        abandon(k, slot.conn)
    if early or b.kind == L.DIRECT or b.abortonclose or slot.flags & L.PROBE or lost:
        if b.abortonclose and not early and not slot.flags & L.PROBE:
            count_term(k, s, L.T_CLIENT + b.tcp * L.TCP)
        if not slot.flags & L.ATWORK:
            remove(k, s)
        if b.tcp and phase == L.ADMITTED_IN and not slot.flags & L.PROBE:
            leave_frontend(k, b.bal)  # let in while HAProxy stands still
        release(k, s)
        detach(k, s)
    else:
        arm(k, s)


@jit
def deadline(k, s):
    """HAProxy's deadline for the phase of slot s (or the connect timeout of a client)."""
    slot = k.slots[s]
    phase = slot.phase
    slot.t_hap = L.FOREVER
    if slot.flags & L.CHECK and slot.check < -1:
        # a repeated check is not answered at once: the control plane sets its deadlines
        k.repeats[REPEATED - slot.check].active = 0
        notice(k, L.N_REPEAT, REPEATED - slot.check, 0)
        arm(k, s)
        return
    if phase == L.ENTRY:
        reply_entry(k, s)
    elif phase == L.QUEUE:
        remove(k, s)
        reply(k, s, HTTP_503, L.T_SQT)
    elif not slot.flags & L.RIDES and (phase in (L.SYN, L.ARP, L.CONN) or awaits_greeting(k, s)):
        connect_failed(k, s, True)
    elif slot.flags & L.CHECK:
        check_result(k, s, L.L7TOUT)
        detach(k, s)
    else:
        if not replay(k, s, L.ON_TIMEOUT):
            if not slot.flags & L.PROBE:
                observe(k, slot.edge, True, False)
            # a direct connection has one limit: data that nobody has acknowledged
            direct = k.backends[slot.be].kind == L.DIRECT
            reply(k, s, TIMEOUT if direct else HTTP_504, 0 if direct else L.T_SHT)


@jit
def awaits_greeting(k, s):
    """Is libpq's connect_timeout over while the greeting of slot s's server is missing?"""
    slot = k.slots[s]
    b = k.backends[slot.be]
    return slot.phase == L.SEND and b.multi and k.g[L.NOW] >= slot.t_try + b.t_connect


@jit
def settle(k):
    """Run everything that is ready in this instant."""
    s = next_ready(k)
    while s >= 0:
        go_on(k, s)
        s = next_ready(k)


@jit
def advance(k, limit):
    """Process events before `limit` (ns); stop early, at a notice or when slots run short."""
    g = k.g
    settle(k)
    while g[L.NOTES] == 0 and g[L.BUG] == 0:
        if g[L.SLOTS] - g[L.USED_SLOTS] < SPARE_SLOTS:
            notice(k, L.N_GROW, 0, 0)
            return
        if g[L.PROBE_SLOTS] - g[L.USED_PROBES] < SPARE_SLOTS:
            notice(k, L.N_GROW, 1, 0)
            return
        n = pop(k, limit)
        if n < 0:
            g[L.NOW] = limit
            return
        g[L.NEVENTS] += 1
        if g[L.NOW] == g[L.SAME_T]:
            g[L.SAME_N] += 1
            if g[L.SAME_N] > SAME_INSTANT_LIMIT:
                g[L.BUG] = 1
        else:
            g[L.SAME_T] = g[L.NOW]
            g[L.SAME_N] = 0
        if n >= g[L.NODE_SLOT]:
            slot_event(k, n - g[L.NODE_SLOT])
        elif n < g[L.NODE_USER]:
            cpu_event(k, n)
        elif n < g[L.NODE_GEN]:
            user_event(k, n - g[L.NODE_USER])
        elif n < g[L.NODE_REPEAT]:
            generator_event(k, n - g[L.NODE_GEN])
        elif n < g[L.NODE_POOL]:
            repeat_event(k, n - g[L.NODE_REPEAT])
        else:
            pool_event(k, n - g[L.NODE_POOL])
        settle(k)
        if g[L.POPS] >= 65536:
            adapt(k)
