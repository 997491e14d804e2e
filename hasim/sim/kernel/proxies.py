"""What the control plane may do to HAProxy: its servers, its sessions, its process.

As in commands.py, a command may leave slots ready.
"""

from __future__ import annotations

from hasim.sim.kernel import layout as L
from hasim.sim.kernel.answer import answer, clone
from hasim.sim.kernel.balance import count_usable, enter_ring
from hasim.sim.kernel.calendar import arm, ready, remove, schedule
from hasim.sim.kernel.conns import (
    cut_idle,
    detach,
    hang_up,
    leave_idle,
    log_session,
    reply,
)
from hasim.sim.kernel.layout import jit
from hasim.sim.kernel.path import KILLED
from hasim.sim.kernel.place import release, serve_queue
from hasim.sim.trace import EOF, HTTP_502


@jit
def set_rotation(k, e, usable, running):
    """A server enters or leaves the balancing tree."""
    edge = k.edges[e]
    entered = usable and not edge.usable
    left = edge.usable and not usable
    edge.running = running
    edge.usable = usable
    count_usable(k, edge.be)
    if entered:
        enter_ring(k, e)
    if entered:
        serve_queue(k, e)
    if left and k.backends[edge.be].redispatch and not k.backends[edge.be].persist:
        s = k.queues[edge.queue].head
        while s >= 0:
            remove(k, s)
            k.slots[s].edge = -1
            k.slots[s].t_hap = L.FOREVER
            ready(k, s, L.ROUTE)
            s = k.queues[edge.queue].head


@jit
def set_weight(k, e, weight):
    """Effective weight in sixteenths (slowstart)."""
    k.edges[e].weight = weight
    count_usable(k, k.edges[e].be)


@jit
def count_all(k):
    """Before the first request: what is in turn in each backend."""
    for be in range(k.n_backends):
        count_usable(k, be)


@jit
def set_maxconn(k, e, maxconn):
    """Server maxconn, which slowstart moves."""
    k.edges[e].maxconn = maxconn
    serve_queue(k, e)


@jit
def shutdown_sessions(k, e):
    """on-marked-down shutdown-sessions (reference/haproxy.md section 2)."""
    for s in range(k.n_slots):
        slot = k.slots[s]
        if slot.phase == L.FREE or slot.edge != e or not slot.flags & L.SLOTTED:
            continue
        if slot.phase == L.ENTRY:  # a command on its way to HAProxy meets the end there
            release(k, s)
            log_session(k, e, L.TCP + L.T_DH)
            if slot.conn >= 0:
                hang_up(k, slot.conn)
                k.conns[slot.conn].cut = 1
            continue
        waiting = slot.flags & L.ATWORK or slot.phase in (L.SEND, L.RESP, L.LOST)
        connecting = slot.phase in (L.SYN, L.ARP, L.CONN)
        if waiting or (connecting and slot.flags & L.REUSED):
            reply(k, s, HTTP_502, L.T_DH)
        elif connecting and slot.retries == 0:
            reply(k, s, EOF, L.T_D)
        else:
            slot.term = KILLED  # it has retried: only marked, and tries on to its end
    for c in range(k.n_conns):
        if k.conns[c].state == L.C_IDLE and k.conns[c].edge == e:
            cut_idle(k, c, L.TCP + L.T_DH)


@jit
def freeze_balancer(k, b):
    """SIGSTOP of a HAProxy process."""
    k.balancers[b].frozen = 1


@jit
def thaw_balancer(k, b):
    """SIGCONT of a HAProxy process: what came due meanwhile happens now."""
    k.balancers[b].frozen = 0
    for s in range(k.n_slots):
        slot = k.slots[s]
        if slot.phase == L.FREE or slot.be < 0:
            continue
        be = k.backends[slot.be]
        if be.kind != L.HAPROXY or be.bal != b:
            continue
        if slot.flags & L.HAPDUE:
            slot.flags &= ~L.HAPDUE
            slot.t_hap = k.g[L.NOW]
            arm(k, s)
        if slot.flags & L.HELD and not slot.flags & L.ATWORK:
            slot.flags &= ~L.HELD
            if slot.phase == L.CONN:
                slot.t_phase = k.g[L.NOW]
                arm(k, s)
                continue
            ready(k, s, slot.phase)
    for e in range(k.n_repeats):
        if k.repeats[e].held and k.repeats[e].active:
            k.repeats[e].held = 0
            schedule(k, k.g[L.NODE_REPEAT] + e, k.g[L.NOW])
    for number in range(k.n_pools):
        if k.pools[number].held:
            k.pools[number].held = 0
            schedule(k, k.g[L.NODE_POOL] + number, k.g[L.NOW])


@jit
def of_balancer(k, s, b):
    """Is slot s a request that balancer b has in hand?"""
    slot = k.slots[s]
    if slot.phase in (L.FREE, L.ENTRY, L.BACKOFF) or slot.be < 0 or slot.flags & L.CHECK:
        return False
    return k.backends[slot.be].kind == L.HAPROXY and k.backends[slot.be].bal == b


@jit
def crash_balancer(k, b, silent):
    """A HAProxy process ends: its clients see a close, or nothing if their way to it is silent."""
    balancer = k.balancers[b]
    balancer.epoch += 1
    for s in range(k.n_slots):  # first, so that no freed place goes to one of its own queue
        if of_balancer(k, s, b) and not k.slots[s].flags & L.ATWORK:
            remove(k, s)
        slot = k.slots[s]
        if slot.phase != L.FREE and slot.be >= 0 and k.backends[slot.be].bal == b:
            slot.flags &= ~L.FRONT
    for c in range(k.n_conns):
        if k.conns[c].bal == b and k.conns[c].state == L.C_IDLE:
            leave_idle(k, c)
            hang_up(k, c)
            k.conns[c].cut = 1
    for s in range(k.n_slots):
        if not of_balancer(k, s, b):
            continue
        slot = k.slots[s]
        release(k, s)
        slot.flags &= ~L.HELD if not slot.flags & L.ATWORK else -1
        if not silent or slot.flags & L.ORPHAN:
            if not answer(k, s, EOF, not slot.flags & L.ATWORK):
                detach(k, s)
            continue
        n = s
        if slot.flags & L.ATWORK:
            n = clone(k, s)
            detach(k, s)
        k.slots[n].phase = L.LOST
        k.slots[n].t_phase = k.slots[n].t_hap = L.FOREVER
        arm(k, n)
    balancer.conns = balancer.frozen = 0
    for e in range(k.n_edges):
        edge = k.edges[e]
        if edge.st >= 0 and k.backends[edge.be].kind == L.HAPROXY and k.backends[edge.be].bal == b:
            k.stations[edge.st].idle -= edge.idle
            edge.idle = edge.stale = 0
