"""What the control plane may do to the data plane.

A command may leave slots ready; the engine then calls advance() for the same instant, which runs
them. (A command that did so itself would have to be compiled with the whole request path.)
"""

from __future__ import annotations

from hasim.sim.kernel import layout as L
from hasim.sim.kernel.answer import new_segment, record
from hasim.sim.kernel.calendar import arm, free, ready, remove, schedule, unlink
from hasim.sim.kernel.checks import new_check
from hasim.sim.kernel.conns import cut_idle
from hasim.sim.kernel.cpu import charge, recompute, rescale, stop_cpu
from hasim.sim.kernel.layout import jit
from hasim.sim.kernel.pools import close_pools
from hasim.sim.kernel.users import next_arrival
from hasim.sim.kernel.work import off_work, pump
from hasim.sim.trace import OPEN


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
    cut_all(k, st)
    close_pools(k, st)
    station.frozen = station.throttled = station.oom_sent = 0
    station.heap = -1
    station.nrun = 0


@jit
def cut_all(k, st):
    """All connections to station st end, and what is under way on them."""
    station = k.stations[st]
    frozen, station.frozen = station.frozen, 1  # nothing of its queue starts meanwhile
    for s in range(k.n_slots):
        slot = k.slots[s]
        if slot.phase == L.FREE or slot.st != st:
            continue
        if slot.flags & L.ATWORK:
            if slot.phase == L.CPU:
                stop_cpu(k, s)
            remove(k, s)
            if slot.child >= 0:
                orphan(k, slot.child)
                slot.child = -1
            off_work(k, s)
            lose(k, s)
        elif slot.phase == L.RESP or is_kept_waiting(k, s):
            lose(k, s)
    station.frozen = frozen
    close_conns(k, st)
    for e in range(k.n_edges):
        edge = k.edges[e]
        if edge.st == st:
            edge.epoch += 1
            if edge.connect < 2:
                station.idle -= edge.idle
                edge.idle = 0
            edge.stale = edge.idle
            station.idle -= edge.pooled
            edge.pooled = 0
    station.open = 0


@jit
def orphan(k, s):
    """The caller of slot s is dead. A database hears that at once, HAProxy's http mode does not."""
    slot = k.slots[s]
    slot.parent = -1
    slot.flags |= L.ORPHAN
    b = k.backends[slot.be]
    if b.fresh or (slot.via >= 0 and b.kind == L.DIRECT):
        slot.t_cli = k.g[L.NOW]
        arm(k, s)


@jit
def close_conns(k, st):
    """Station st closes the idle connections of pools that lead to it; silence hides it."""
    for c in range(k.n_conns):
        conn = k.conns[c]
        if conn.state != L.C_IDLE or conn.edge < 0:
            continue
        edge = k.edges[conn.edge]
        if edge.st == st and edge.connect < 2 and conn.epoch == edge.epoch:
            cut_idle(k, c, L.TCP + L.T_SH)


@jit
def is_kept_waiting(k, s):
    """Does slot s wait for a stopped process, which has not taken its request yet?"""
    slot = k.slots[s]
    if slot.phase != L.CONN or not slot.flags & L.HELD:
        return False
    return slot.flags & L.PING or k.backends[slot.be].multi


@jit
def cut(k, st):
    """The process closes all its connections and goes on."""
    cut_all(k, st)
    pump(k, st)


@jit
def set_commit(k, st, extra):
    """Each commit takes `extra` ns longer; below 0 it waits until this is called again."""
    k.stations[st].commit_extra = extra
    for s in range(k.n_slots):
        slot = k.slots[s]
        if slot.phase != L.COMMIT or slot.st != st:
            continue
        if extra < 0:
            slot.t_phase = L.FOREVER
            arm(k, s)
        elif slot.t_phase >= L.FOREVER:
            ready(k, s, L.RUN)


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
        if slot.st == st and is_kept_waiting(k, s):
            slot.flags &= ~L.HELD
            slot.t_phase = k.g[L.NOW]
            arm(k, s)
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
    close_conns(k, st)


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
def submit_check(k, e, op, check, connect_by, answer_by, answer_within):
    """Send one health check over edge e; op -1: a connect is enough. 0: no deadline."""
    s = new_check(k, e, op, check)
    slot = k.slots[s]
    slot.t_hap = connect_by if connect_by > 0 else L.FOREVER
    slot.answer_by = answer_by if answer_by > 0 else L.FOREVER
    slot.answer_within = answer_within
    slot.t_hap = min(slot.t_hap, slot.answer_by)


@jit
def open_segment(k, faulted):
    """A fault or a repair: what begins from now on belongs to a new segment."""
    new_segment(k, 0)
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
