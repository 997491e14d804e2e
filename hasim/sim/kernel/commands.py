"""What the control plane may do to the data plane.

A command may leave slots ready; the engine then calls advance() for the same instant, which runs
them. (A command that did so itself would have to be compiled with the whole request path.)
"""

from __future__ import annotations

from hasim.sim.kernel import layout as L
from hasim.sim.kernel.answer import answer, clone, detach, new_segment, record
from hasim.sim.kernel.balance import count_usable, enter_ring
from hasim.sim.kernel.calendar import arm, free, ready, remove, schedule, unlink
from hasim.sim.kernel.checks import new_check
from hasim.sim.kernel.cpu import charge, recompute, rescale, stop_cpu
from hasim.sim.kernel.layout import jit
from hasim.sim.kernel.path import KILLED
from hasim.sim.kernel.place import release, reply, serve_queue
from hasim.sim.kernel.users import next_arrival
from hasim.sim.kernel.work import off_work, pump
from hasim.sim.trace import EOF, HTTP_502, OPEN


@jit
def lose(k, s):
    """The server behind slot s is gone: its peer sees a closed connection, or nothing at all."""
    slot = k.slots[s]
    unlink(k, k.g[L.NODE_SLOT] + s)
    slot.flags &= ~L.HELD
    slot.t_phase = L.FOREVER
    if slot.flags & L.ZOMBIE:
        free(k, s)
    elif k.edges[slot.edge].connect >= 2:
        slot.phase = L.LOST
        arm(k, s)
    else:
        ready(k, s, L.CUT)


@jit
def crash(k, st):
    """The process of station st ends; over edges that are silent now, nobody hears of it."""
    station = k.stations[st]
    station.frozen = 1  # nothing of its queue starts while it is taken apart
    for s in range(k.n_slots):
        slot = k.slots[s]
        if slot.phase == L.FREE or slot.st != st:
            continue
        if slot.flags & L.ATWORK:
            if slot.phase == L.CPU:
                stop_cpu(k, s)
            remove(k, s)
            if slot.child >= 0:
                k.slots[slot.child].parent = -1
                k.slots[slot.child].flags |= L.ORPHAN
                slot.child = -1
            off_work(k, s)
            lose(k, s)
        elif slot.phase == L.RESP:
            lose(k, s)
    station.frozen = station.throttled = station.oom_sent = 0
    station.heap = -1
    station.nrun = 0
    for e in range(k.n_edges):
        edge = k.edges[e]
        if edge.st == st:
            edge.epoch += 1
            if edge.connect < 2:
                station.idle -= edge.idle
                edge.idle = 0
            edge.stale = edge.idle


@jit
def freeze(k, st):
    """SIGSTOP."""
    station = k.stations[st]
    if station.frozen:
        return
    charge(k, st)
    station.frozen = 1
    if not station.dedicated:
        recompute(k, st)
        return
    station.rate = 0.0
    for s in range(k.n_slots):
        slot = k.slots[s]
        if slot.phase == L.CPU and slot.st == st and not slot.flags & L.PROBE:
            slot.work = max(0, slot.t_phase - k.g[L.NOW])
            slot.t_phase = L.FOREVER
            slot.flags |= L.HELD
            arm(k, s)


@jit
def thaw(k, st):
    """SIGCONT."""
    station = k.stations[st]
    if not station.frozen:
        return
    charge(k, st)
    station.frozen = 0
    station.rate = 1.0
    for s in range(k.n_slots):
        slot = k.slots[s]
        if slot.st != st or not slot.flags & L.HELD or not slot.flags & L.ATWORK:
            continue
        slot.flags &= ~L.HELD
        if slot.phase == L.CPU:
            slot.t_phase = k.g[L.NOW] + slot.work
            arm(k, s)
        else:
            ready(k, s, slot.phase)
    if not station.dedicated:
        recompute(k, st)
    pump(k, st)


@jit
def close_idle(k, st):
    """The process closes its idle connections."""
    for e in range(k.n_edges):
        if k.edges[e].st == st:
            k.stations[st].idle -= k.edges[e].idle
            k.edges[e].idle = k.edges[e].stale = 0


@jit
def set_speed(k, st, speed_ppb):
    """CPU work on the station takes 1e9 / speed_ppb of its time from now on."""
    station = k.stations[st]
    speed = speed_ppb * 1e-9
    rescale(k, st, station.speed / speed)
    station.speed = speed


@jit
def set_connect(k, e, outcome):
    """What a connect over edge e meets from now on."""
    edge = k.edges[e]
    edge.connect = outcome
    if outcome == L.REFUSED and edge.st >= 0:
        k.stations[edge.st].idle -= edge.idle
        edge.idle = edge.stale = 0


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
        waiting = slot.flags & L.ATWORK or slot.phase in (L.SEND, L.RESP, L.LOST)
        connecting = slot.phase in (L.SYN, L.ARP, L.CONN)
        if waiting or (connecting and slot.flags & L.REUSED):
            reply(k, s, HTTP_502, L.T_DH)
        elif connecting and slot.retries == 0:
            reply(k, s, EOF, L.T_D)
        else:
            slot.term = KILLED  # it has retried: only marked, and tries on to its end


@jit
def submit_check(k, e, op, check, connect_by, answer_by, answer_within):
    """Send one health check over edge e; op -1: a connect is enough. 0: no deadline."""
    s = new_check(k, e, op, check)
    slot = k.slots[s]
    slot.t_hap = connect_by if connect_by > 0 else L.FOREVER
    slot.answer_by = answer_by if answer_by > 0 else L.FOREVER
    slot.answer_within = answer_within
    slot.t_hap = min(slot.t_hap, slot.answer_by)


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


@jit
def open_segment(k, faulted):
    """A fault or a repair: what begins from now on belongs to a new segment."""
    new_segment(k)
    if faulted:
        k.g[L.FAULTED] = 1


@jit
def start_node(k, node, t):
    """Schedule a generator or container for the first time."""
    schedule(k, node, t)


@jit
def start_users(k):
    """Schedule every user for the start of its first span."""
    for u in range(k.n_users):
        if k.users[u].last_span > k.users[u].span:
            schedule(k, k.g[L.NODE_USER] + u, k.spans[k.users[u].span].start)


@jit
def charge_all(k):
    """Bring the CPU accounts of all containers up to now (before they are read)."""
    for st in range(k.n_stations):
        charge(k, st)


@jit
def close_books(k):
    """The run is over: every request still under way is booked as interrupted."""
    for s in range(k.n_slots):
        slot = k.slots[s]
        if slot.phase != L.FREE and slot.user >= 0 and not slot.flags & L.ORPHAN:
            record(k, s, OPEN)
            slot.flags |= L.ORPHAN


@jit
def start_arrivals(k, i):
    """Schedule the first arrival of generator i."""
    next_arrival(k, i)


@jit
def start_repeat(k, e, due):
    """Repeat the check of edge e, whose row is filled in, from `due` on while it passes."""
    row = k.repeats[e]
    row.active, row.slot, row.due, row.start, row.held = 1, -1, due, 0, 0
    schedule(k, k.g[L.NODE_REPEAT] + e, due)


@jit
def stop_repeat(k, e):
    """The control plane takes the check of edge e back; one under way goes on without a result."""
    k.repeats[e].active = 0
    unlink(k, k.g[L.NODE_REPEAT] + e)


@jit
def adopt_check(k, e, number, connect_by, answer_by, answer_within):
    """Give the check of edge e that is under way its number and deadlines; 0: no deadline."""
    s = k.repeats[e].slot
    slot = k.slots[s]
    k.repeats[e].slot = -1
    slot.check = number
    slot.answer_by = answer_by if answer_by > 0 else L.FOREVER
    slot.answer_within = answer_within
    if slot.phase in (L.SYN, L.CONN, L.ARP):
        slot.t_hap = connect_by if connect_by > 0 else L.FOREVER
        slot.t_hap = min(slot.t_hap, slot.answer_by)
    else:
        slot.t_hap = slot.answer_by
        if answer_within > 0:
            slot.t_hap = slot.t_try + answer_within
    arm(k, s)
