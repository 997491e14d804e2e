"""A request's place: on a server or in a queue of HAProxy (reference 4.7, 6)."""

from __future__ import annotations

from hasim.sim.kernel import layout as L
from hasim.sim.kernel.answer import notice
from hasim.sim.kernel.balance import eligible, first_backup_of, give, take
from hasim.sim.kernel.calendar import arm, push, ready, remove, unlink
from hasim.sim.kernel.layout import jit

PURGE_DELAY = 5 * L.NS  # source: HAProxy manual 5.2, "pool-purge-delay"


@jit
def observe(k, e, answer_, good):
    """`observe`: consecutive errors of live traffic; at error-limit tell the control plane.

    answer_: an answer (or none), which only layer7 hears; else a connect: good ones count for
    layer4, failed ones for both. source: check.c, analyze_statuses
    """
    edge = k.edges[e]
    if edge.observe == 0 or (edge.observe == 1 if answer_ else edge.observe == 2 and good):
        return
    if good:
        edge.errors = 0
        return
    edge.errors += 1
    if edge.errors >= edge.error_limit:
        edge.errors = 0
        notice(k, L.N_OBSERVED, e, 0)


@jit
def assign(k, s, e):
    """Slot s belongs to server e from now on."""
    slot = k.slots[s]
    slot.edge = e
    slot.st = k.edges[e].st
    if not slot.flags & (L.PROBE | L.CHECK):
        take(k, e)
        slot.flags |= L.SLOTTED


@jit
def in_turn(k, e):
    """May server e take requests of its backend: a backup only while no active one is usable?"""
    be = k.edges[e].be
    actives = k.backends[be].actives
    return eligible(k, be, e, actives, -1 if actives else first_backup_of(k, be))


@jit
def serve_queue(k, e):
    """Server e has room: waiting requests of its own queue, then of the backend's, go to it."""
    edge = k.edges[e]
    be_queue = k.backends[edge.be].queue
    if k.queues[edge.queue].len == 0 and k.queues[be_queue].len == 0:
        return
    while edge.maxconn == 0 or edge.served < edge.maxconn:
        s = k.queues[edge.queue].head
        if s < 0 and in_turn(k, e):
            s = k.queues[be_queue].head
        if s < 0:
            return
        remove(k, s)
        unlink(k, k.g[L.NODE_SLOT] + s)
        k.slots[s].t_hap = L.FOREVER
        assign(k, s, e)
        ready(k, s, L.DIAL)


@jit
def release(k, s):
    """Slot s gives its place on the server back."""
    slot = k.slots[s]
    if slot.flags & L.SLOTTED:
        slot.flags &= ~L.SLOTTED
        give(k, slot.edge)
        serve_queue(k, slot.edge)


@jit
def enqueue(k, s, q):
    """Wait in a queue of HAProxy, `timeout queue` at most."""
    slot = k.slots[s]
    slot.phase = L.QUEUE
    slot.t_phase = L.FOREVER
    slot.t_hap = k.g[L.NOW] + k.backends[slot.be].t_queue
    push(k, q, s)
    arm(k, s)


@jit
def purge_idle(k, e):
    """Every pool-purge-delay half of the idle connections beyond the estimated need is closed.

    source: HAProxy manual 5.2 "pool-purge-delay" (5 s); server.c, srv_cleanup_idle_conns
    """
    edge = k.edges[e]
    edge.max_used = max(edge.max_used, edge.served)
    periods = (k.g[L.NOW] - edge.t_purge) // PURGE_DELAY
    if periods <= 0:
        return
    edge.t_purge += periods * PURGE_DELAY
    for _ in range(min(periods, 40)):
        excess = edge.served + edge.idle - max(edge.max_used, edge.need)
        if excess > 0:
            closed = min(edge.idle, excess // 2 + (excess & 1))
            edge.idle -= closed
            edge.stale = max(0, edge.stale - closed)
            k.stations[edge.st].idle -= closed
        edge.need = max((edge.need + edge.max_used) // 2, edge.max_used)
        edge.max_used = edge.served
