"""advance(): process events up to a limit, in (time, sequence) order."""

from __future__ import annotations

from hasim.sim.kernel.answer import answer, check_result, detach, notice
from hasim.sim.kernel.calendar import adapt, arm, next_ready, pop, ready, remove
from hasim.sim.kernel.cpu import cpu_event
from hasim.sim.kernel.layout import (
    ADMIT,
    ADMITTED_IN,
    ARP,
    BACKOFF,
    BUG,
    CHECK,
    CLIENT_TIMEOUT,
    CONN,
    CPU,
    CUT,
    DIAL,
    DIRECT,
    DONE,
    ENTER,
    ENTRY,
    FAIL,
    FOREVER,
    FREE,
    GRANT,
    HAPDUE,
    HAPROXY,
    IO,
    L7TOUT,
    N_GROW,
    NEVENTS,
    NODE_GEN,
    NODE_SLOT,
    NODE_USER,
    NOTES,
    NOW,
    ON_TIMEOUT,
    POOL,
    POPS,
    PROBE,
    QUEUE,
    RESP,
    RETURN,
    ROUTE,
    RUN,
    SAME_N,
    SAME_T,
    SEND,
    SLOTTED,
    SYN,
    T_CLIENT,
    T_SHT,
    T_SQT,
    TURN,
    USED_SLOTS,
    apart,
    entry,
    jit,
)
from hasim.sim.kernel.path import (
    attempt,
    connect_failed,
    count_term,
    cut,
    dial,
    done,
    observe,
    release,
    replay,
    reply,
    resend,
    route,
    sent,
)
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
def balancer_frozen(k, s):
    """Is the HAProxy process in front of slot s stopped?"""
    b = k.backends[k.slots[s].be]
    return b.kind == HAPROXY and k.balancers[b.bal].frozen != 0


@jit
def go_on(k, s):
    """Slot s is ready: its next move in this instant."""
    apart()
    slot = k.slots[s]
    phase = slot.phase
    if phase in (RUN, GRANT, RETURN):
        if k.stations[slot.st].frozen:
            hold(k, s, phase)
        elif phase == GRANT:
            grant(k, s)
        elif phase == RUN:
            after_cpu(k, s)
            run(k, s)
        else:
            after_call(k, s)
        return
    if phase == ENTER:
        enter(k, s)
        return
    if balancer_frozen(k, s):
        hold(k, s, phase)
    elif phase == ROUTE:
        route(k, s, slot.edge)
    elif phase == DONE:
        done(k, s)
    elif phase == DIAL:
        dial(k, s)
    elif phase == FAIL:
        connect_failed(k, s, False)
    elif phase == CUT:
        cut(k, s)
    elif phase == ADMITTED_IN:
        admitted(k, s)
    elif phase != FREE:
        k.g[BUG] = 2


@jit
def slot_event(k, s):
    """A timer of slot s is due: the client's deadline, HAProxy's, or that of its phase."""
    apart()
    slot = k.slots[s]
    now = k.g[NOW]
    if slot.t_cli <= now:
        client_gone(k, s)
    elif slot.t_hap <= now:
        if slot.phase != ENTRY and balancer_frozen(k, s):
            slot.flags |= HAPDUE
            slot.t_hap = FOREVER
            arm(k, s)
        else:
            deadline(k, s)
    else:
        slot.t_phase = FOREVER
        timer(k, s)


@jit
def timer(k, s):
    """The phase timer of slot s."""
    apart()
    slot = k.slots[s]
    phase = slot.phase
    if phase == CPU:
        if k.stations[slot.st].frozen:
            hold(k, s, RUN)
        else:
            after_cpu(k, s)
            run(k, s)
    elif phase == IO:
        if k.stations[slot.st].frozen:
            hold(k, s, RUN)
        else:
            run(k, s)
    elif phase == POOL:
        remove(k, s)
        slot.outcome = APP_5XX
        ready(k, s, RETURN)
    elif phase == ENTRY:
        entry_event(k, s)
    elif phase == BACKOFF:
        slot.t_cli = k.g[NOW] + k.g[CLIENT_TIMEOUT]
        ready(k, s, ENTER)
    elif phase == RESP:
        if k.edges[slot.edge].connect >= 2:
            slot.trynum += 1
            slot.t_phase = k.g[NOW] + (RTO << min(slot.trynum, 10))
            arm(k, s)
        else:
            ready(k, s, DONE)
    elif balancer_frozen(k, s):
        # HAProxy's own timers fire when it runs again
        if phase == ARP:
            hold(k, s, FAIL)
        elif phase == TURN:
            hold(k, s, DIAL if slot.flags & SLOTTED or slot.flags & PROBE else ROUTE)
        else:
            slot.t_phase = k.g[NOW] + RTO
            arm(k, s)
    elif phase == CONN:
        sent(k, s)
    elif phase == SYN:
        attempt(k, s)
    elif phase == SEND:
        resend(k, s)
    elif phase == ARP:
        connect_failed(k, s, False)
    elif phase == TURN:
        if slot.flags & SLOTTED:
            dial(k, s)
        else:
            route(k, s, slot.edge)
    else:
        k.g[BUG] = 3


@jit
def client_gone(k, s):
    """The caller's own timeout: it goes on without an answer, HAProxy and the server may not."""
    apart()
    slot = k.slots[s]
    phase = slot.phase
    slot.t_cli = FOREVER
    early = phase in (ENTRY, ADMIT, BACKOFF)
    if early:
        remove(k, s)
    if answer(k, s, TIMEOUT, early):
        return
    b = k.backends[slot.be]
    waiting = phase in (QUEUE, SYN, ARP, TURN)
    if early or (waiting and (b.kind == DIRECT or b.abortonclose or slot.flags & PROBE)):
        if not early and not slot.flags & PROBE and b.kind == HAPROXY:
            count_term(k, s, T_CLIENT)
        remove(k, s)
        release(k, s)
        detach(k, s)
    elif slot.flags & PROBE or b.kind == DIRECT:
        detach(k, s)
    else:
        arm(k, s)


@jit
def deadline(k, s):
    """HAProxy's deadline for the phase of slot s (or the connect timeout of a client)."""
    apart()
    slot = k.slots[s]
    phase = slot.phase
    slot.t_hap = FOREVER
    if phase == ENTRY:
        reply_entry(k, s)
    elif phase == QUEUE:
        remove(k, s)
        reply(k, s, HTTP_503, T_SQT)
    elif phase in (SYN, ARP, CONN):
        connect_failed(k, s, True)
    elif slot.flags & CHECK:
        check_result(k, s, L7TOUT)
        detach(k, s)
    else:
        if not slot.flags & PROBE:
            observe(k, slot.edge, k.edges[slot.edge].observe == 1)
        if not replay(k, s, ON_TIMEOUT):
            reply(k, s, HTTP_504, T_SHT)


@jit
def settle(k):
    """Run everything that is ready in this instant."""
    apart()
    s = next_ready(k)
    while s >= 0:
        go_on(k, s)
        s = next_ready(k)


@entry
def advance(k, limit):
    """Process events before `limit` (ns); stop early, at a notice or when slots run short."""
    g = k.g
    settle(k)
    while g[NOTES] == 0 and g[BUG] == 0:
        if k.n_slots - g[USED_SLOTS] < SPARE_SLOTS:
            notice(k, N_GROW, 0, 0)
            return
        n = pop(k, limit)
        if n < 0:
            g[NOW] = limit
            return
        g[NEVENTS] += 1
        if g[NOW] == g[SAME_T]:
            g[SAME_N] += 1
            if g[SAME_N] > SAME_INSTANT_LIMIT:
                g[BUG] = 1
        else:
            g[SAME_T] = g[NOW]
            g[SAME_N] = 0
        if n >= g[NODE_SLOT]:
            slot_event(k, n - g[NODE_SLOT])
        elif n < g[NODE_USER]:
            cpu_event(k, n)
        elif n < g[NODE_GEN]:
            user_event(k, n - g[NODE_USER])
        else:
            generator_event(k, n - g[NODE_GEN])
        settle(k)
        if g[POPS] >= 65536:
            adapt(k)
