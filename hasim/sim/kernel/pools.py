"""Connection pools of callers, and the nested calls that use them.

The rules are SQLAlchemy's QueuePool: the connection that is idle longest is used first, up to
size + overflow are open, whoever finds none waits in line; `size` of them are kept. An error of
a connection closes it, and with invalidate-all no connection that is older is used again.
Source: SQLAlchemy 2.0, pool/impl.py (QueuePool) and pool/base.py (_ConnectionFairy._checkout).
"""

from __future__ import annotations

import numpy as np

from hasim.sim.kernel import layout as L
from hasim.sim.kernel.answer import bucket_of
from hasim.sim.kernel.calendar import allocate, arm, push, ready, remove, schedule, unlink
from hasim.sim.kernel.conns import abandon, cut_idle, drop, forget, hang_up, is_dead, leave_idle
from hasim.sim.kernel.draw import words
from hasim.sim.kernel.layout import jit
from hasim.sim.trace import BUCKETS

# A connection whose data nobody acknowledges is given up. Source: Linux ip-sysctl,
# tcp_retries2 = 15: "a hypothetical timeout of 924.6 seconds"
RETRANSMITS = 924_600_000_000


@jit
def note_wait(k, s, number):
    """Book how long slot s waited for a connection of its pool."""
    slot = k.slots[s]
    if not slot.flags & L.PROBE:
        cell = slot.seg * k.n_pools + number
        k.pool_hist[cell * BUCKETS + bucket_of(k.g[L.NOW] - slot.t_call)] += 1


@jit
def call(k, s):
    """Nested call: a pooled connection if the row asks for one, then a child slot."""
    slot = k.slots[s]
    row = k.rows[slot.pc]
    slot.t_call = k.g[L.NOW]
    if row.pool >= 0:
        number = row.pool + k.stations[slot.st].local
        pool = k.pools[number]
        slot.pool = number
        if pool.busy >= pool.limit or k.queues[pool.queue].len > 0:
            slot.phase = L.POOL
            slot.t_phase = k.g[L.NOW] + min(pool.wait, row.timeout)
            push(k, pool.queue, s)
            arm(k, s)
            return
        checkout(k, s)
    spawn(k, s)


@jit
def checkout(k, s):
    """Slot s gets a connection of its pool: the one that is idle longest, else a new one."""
    slot = k.slots[s]
    if slot.flags & L.PROBE:
        return
    note_wait(k, s, slot.pool)
    pool = k.pools[slot.pool]
    pool.busy += 1
    c = pool.head
    while c >= 0:
        conn = k.conns[c]
        pool.head = conn.next
        pool.idle -= 1
        if conn.gen == pool.gen:
            leave_idle(k, c)
            conn.state = L.C_OPEN
            break
        drop(k, c)  # invalidated
        c = pool.head
    if c < 0:
        c = pool.free
        conn = k.conns[c]
        pool.free = conn.next
        conn.gen, conn.edge, conn.cut, conn.bal = pool.gen, -1, 0, -1
        conn.slotted = conn.counted = 0
        conn.state = L.C_OPEN if pool.http else L.C_OPENING
    conn.slot = -1
    slot.lent = c
    slot.flags |= L.POOLED


@jit
def spawn(k, s):
    """The child slot of the call at hand."""
    n = allocate(k, k.slots[s].flags & L.PROBE)
    slot, child = k.slots[s], k.slots[n]
    row = k.rows[slot.pc]
    local = k.stations[slot.st].local
    child.flags = slot.flags & L.PROBE
    be = row.be + row.per * local
    if k.backends[be].kind == L.HAPROXY and not k.backends[be].tcp:
        # services keep their connections: a nested call is seldom the first on its own
        child.flags |= L.NONFIRST
    if k.ops[row.op].write:
        child.flags |= L.WRITE
    child.parent, child.op = s, row.op
    child.be = be
    child.ordinal, child.entity = slot.ordinal, slot.entity
    child.path = slot.path * np.uint64(131) + np.uint64(slot.pc + 1)
    block = words(k, child.ordinal, child.entity, child.path, np.uint64(0))
    child.w2, child.w3 = block[2], block[3]
    child.t_begin = k.g[L.NOW]
    child.seg = slot.seg
    if row.timeout < L.FOREVER:
        child.t_cli = slot.t_call + row.timeout
    child.answer_by = child.t_cli
    slot.child = n
    slot.phase = L.CALL
    slot.t_phase = L.FOREVER
    arm(k, s)
    phase = L.ROUTE
    if row.entry >= 0:
        child.entry = row.entry + local
        child.t_hap = k.g[L.NOW] + row.connect
        phase = L.ENTER
    if row.pool >= 0:
        child.via = slot.pool
        c = slot.lent if slot.flags & L.POOLED else shown(k, slot.pool)
        if slot.flags & L.POOLED:
            child.conn = c
            k.conns[c].slot = n
        if c >= 0 and k.conns[c].edge >= 0:
            phase = ride(k, n, c)
    ready(k, n, phase)


@jit
def ride(k, n, c):
    """Slot n goes over open connection c; the phase in which it begins."""
    slot, conn = k.slots[n], k.conns[c]
    pool = k.pools[conn.pool]
    slot.flags |= L.RIDES | L.REUSED | L.NONFIRST
    if pool.ping:
        slot.flags |= L.PING
    slot.edge, slot.st, slot.epoch = conn.edge, k.edges[conn.edge].st, conn.epoch
    if conn.cut:
        slot.epoch = k.edges[conn.edge].epoch - 1
    if conn.slotted and not slot.flags & L.PROBE:
        conn.slotted = 0
        slot.flags |= L.SLOTTED
    if pool.command < L.FOREVER:
        slot.t_cli = min(slot.t_cli, k.g[L.NOW] + pool.command)
    if slot.entry < 0:
        return L.DIAL
    slot.t_hap = k.g[L.NOW] + min(pool.user_timeout, RETRANSMITS)
    return L.ENTER


@jit
def shown(k, number):
    """The connection that shows a probe what a request of the pool would meet: the one that is
    idle longest, else one in use; -1: a new one would be opened.
    """
    pool = k.pools[number]
    c = pool.head
    while c >= 0 and k.conns[c].gen != pool.gen:
        c = k.conns[c].next
    if c < 0:
        for i in range(pool.first, pool.first + pool.limit):
            if k.conns[i].state == L.C_OPEN and k.conns[i].edge >= 0:
                return i
        return -1
    return -1 if pool.ping and k.conns[c].edge >= 0 and is_dead(k, c) else c


@jit
def check_in(k, c, closing):
    """A connection comes back to its pool: kept if it is good and there is room."""
    conn = k.conns[c]
    pool = k.pools[conn.pool]
    if conn.slot >= 0:
        abandon(k, c)
    if conn.state == L.C_BROKEN and conn.edge >= 0 and pool.all:
        pool.gen += 1
    if conn.state != L.C_OPEN or closing or pool.idle >= pool.size:
        hang_up(k, c)
        forget(k, c)
        return
    conn.state = L.C_IDLE
    conn.next = -1
    if pool.head < 0:
        pool.head = c
    else:
        k.conns[pool.tail].next = c
    pool.tail = c
    pool.idle += 1
    conn.t_last = k.g[L.NOW]
    if conn.edge >= 0 and conn.epoch == k.edges[conn.edge].epoch:
        k.edges[conn.edge].pooled += 1
        k.stations[k.edges[conn.edge].st].idle += 1
    if pool.t_idle < L.FOREVER and k.nodes[k.g[L.NODE_POOL] + conn.pool].bucket < 0:
        schedule(k, k.g[L.NODE_POOL] + conn.pool, k.g[L.NOW] + pool.t_idle)


@jit
def give_pool(k, s):
    """Slot s gives its pooled connection back; the next who waits gets one."""
    slot = k.slots[s]
    if not slot.flags & L.POOLED:
        return
    slot.flags &= ~L.POOLED
    c = slot.lent
    slot.lent = -1
    pool = k.pools[slot.pool]
    pool.busy -= 1
    dying = k.stations[slot.st].frozen  # a process that is dying or stopped sends nothing
    check_in(k, c, dying)
    queue = k.queues[pool.queue]
    while queue.len > 0 and pool.busy < pool.limit and not dying:
        n = queue.head
        remove(k, n)
        k.slots[n].t_phase = L.FOREVER
        unlink(k, k.g[L.NODE_SLOT] + n)
        checkout(k, n)
        k.slots[n].phase = L.CALL
        spawn(k, n)


@jit
def pool_event(k, number):
    """HAProxy's timeout for the connection of a pool that is idle longest is due.

    It does not know of servers that died in silence: their sessions end in this way, too.
    """
    pool = k.pools[number]
    c = pool.head
    while c >= 0:
        conn = k.conns[c]
        if conn.bal >= 0 and k.balancers[conn.bal].frozen:
            pool.held = 1
            return
        if conn.bal >= 0 and conn.bal_epoch == k.balancers[conn.bal].epoch:
            due = conn.t_last + pool.t_idle
            if due > k.g[L.NOW]:
                schedule(k, k.g[L.NODE_POOL] + number, due)
                return
            cut_idle(k, c, L.T_IDLE)
        c = conn.next


@jit
def close_pools(k, st):
    """The process of station st is dead: so are the connections of its pools."""
    for number in range(k.n_pools):
        pool = k.pools[number]
        while pool.st == st and pool.head >= 0:
            c = pool.head
            pool.head = k.conns[c].next
            pool.idle -= 1
            drop(k, c)
