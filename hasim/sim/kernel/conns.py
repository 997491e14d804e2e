"""Connections of a pool, and the end of a request that may be on one.

A connection is a record of its pool. It holds what a TCP session holds while it is open, idle or
not: a place on its server, a place among a frontend's connections, a client of its database. A
request that uses it borrows the place on the server (flag SLOTTED) and gives it back.
"""

from __future__ import annotations

from hasim.sim.kernel import layout as L
from hasim.sim.kernel.answer import N_TERMS, answer, count_term, leave_frontend
from hasim.sim.kernel.balance import give
from hasim.sim.kernel.calendar import arm, free, ready
from hasim.sim.kernel.layout import jit
from hasim.sim.kernel.place import release, serve_queue
from hasim.sim.trace import EOF, HTTP_502, HTTP_503, HTTP_504, NO_ENTRY, TIMEOUT


@jit
def log_session(k, e, term):
    """HAProxy logs the end of a TCP session that has no request on it."""
    if k.edges[e].be >= 0 and k.backends[k.edges[e].be].kind == L.HAPROXY:
        k.terms[(e + 1) * N_TERMS + term] += 1


@jit
def is_dead(k, c):
    """Has the other end closed connection c (whether or not its client knows)?"""
    conn = k.conns[c]
    if conn.cut or conn.epoch != k.edges[conn.edge].epoch:
        return True
    return conn.bal >= 0 and conn.bal_epoch != k.balancers[conn.bal].epoch


@jit
def leave_idle(k, c):
    """Connection c is idle no more: its server counts memory for idle ones."""
    conn = k.conns[c]
    if conn.edge >= 0 and not conn.cut and conn.epoch == k.edges[conn.edge].epoch:
        k.edges[conn.edge].pooled -= 1
        k.stations[k.edges[conn.edge].st].idle -= 1


@jit
def hang_up(k, c):
    """Connection c gives back all that it holds. Doing it twice is harmless."""
    conn = k.conns[c]
    if conn.counted:
        conn.counted = 0
        edge = k.edges[conn.edge]
        if conn.epoch == edge.epoch:
            k.stations[edge.st].open -= 1
    if conn.slotted:
        conn.slotted = 0
        give(k, conn.edge)
        serve_queue(k, conn.edge)
    if conn.bal >= 0:
        bal = conn.bal
        conn.bal = -1
        if conn.bal_epoch == k.balancers[bal].epoch:
            leave_frontend(k, bal)


@jit
def cut_idle(k, c, term):
    """The far side closes idle connection c; its pool meets that at the next use."""
    conn = k.conns[c]
    if conn.cut:
        return
    leave_idle(k, c)
    log_session(k, conn.edge, term)
    hang_up(k, c)
    conn.cut = 1


@jit
def drop(k, c):
    """The pool closes its idle connection c, which is out of the list already."""
    leave_idle(k, c)
    hang_up(k, c)
    forget(k, c)


@jit
def forget(k, c):
    """Record c may be used for another connection."""
    conn = k.conns[c]
    pool = k.pools[conn.pool]
    conn.state = L.C_FREE
    conn.next = pool.free
    pool.free = c


@jit
def part(k, s, good):
    """Slot s is done with its connection; a good one keeps its places, a broken one loses them."""
    slot = k.slots[s]
    conn = k.conns[slot.conn]
    c = slot.conn
    slot.conn = conn.slot = -1
    if good:
        if conn.edge >= 0 and slot.flags & L.SLOTTED:
            slot.flags &= ~L.SLOTTED
            conn.slotted = 1
        return
    conn.state = L.C_BROKEN
    if conn.counted and slot.flags & L.ATWORK:
        conn.counted = 0  # a database notices that its client is gone when it has its answer
        slot.flags |= L.OPENED
    hang_up(k, c)


@jit
def abandon(k, c):
    """Connection c is closed by its owner; the request on it goes on at the far side.

    HAProxy in mode tcp passes the end on and keeps the session until the server has answered.
    Source: measured, HAProxy 2.6.12 without abortonclose.
    """
    conn = k.conns[c]
    slot = k.slots[conn.slot]
    slot.conn = -1
    if conn.bal >= 0 and conn.bal_epoch == k.balancers[conn.bal].epoch:
        slot.flags |= L.FRONT
    if conn.counted and slot.edge == conn.edge:
        slot.flags |= L.OPENED
        conn.counted = 0
    conn.bal = conn.slot = -1
    conn.state = L.C_BROKEN


@jit
def reopen(k, s):
    """The check before use found a dead connection: another one is opened in its place."""
    slot = k.slots[s]
    conn = k.conns[slot.conn]
    pool = k.pools[conn.pool]
    release(k, s)
    hang_up(k, slot.conn)
    if pool.all:
        pool.gen += 1
    conn.state, conn.edge, conn.cut, conn.gen = L.C_OPENING, -1, 0, pool.gen
    slot.flags &= ~(L.RIDES | L.PING | L.REUSED | L.NONFIRST | L.PRESENT | L.HELD)
    slot.edge = slot.st = -1
    slot.retries = slot.term = slot.redis = slot.trynum = 0
    slot.t_phase = slot.t_hap = L.FOREVER
    slot.t_cli = slot.answer_by
    if slot.entry >= 0:
        slot.t_hap = k.g[L.NOW] + pool.connect
        ready(k, s, L.ENTER)
    else:
        ready(k, s, L.ROUTE)


@jit
def detach(k, s):
    """Nobody waits for slot s any more: free it, or let the server finish its work."""
    slot = k.slots[s]
    slot.t_hap = slot.t_cli = L.FOREVER
    slot.flags |= L.ZOMBIE | L.ORPHAN
    if slot.conn >= 0:
        part(k, s, False)
    if slot.flags & L.FRONT:
        slot.flags &= ~L.FRONT
        leave_frontend(k, k.backends[slot.be].bal)
    if slot.flags & L.ATWORK:
        arm(k, s)
        return
    close_opened(k, s)
    free(k, s)


@jit
def close_opened(k, s):
    """Slot s was the only user of its connection to a database: it is closed now."""
    slot = k.slots[s]
    if slot.flags & L.OPENED:
        slot.flags &= ~L.OPENED
        if slot.epoch == k.edges[slot.edge].epoch:
            k.stations[slot.st].open -= 1


@jit
def is_error(outcome):
    """Does a client library take this for the end of its connection?"""
    return outcome in (EOF, NO_ENTRY, TIMEOUT)


@jit
def reply(k, s, outcome, term):
    """HAProxy (or the direct connection) answers the caller of slot s."""
    slot = k.slots[s]
    b = k.backends[slot.be]
    if slot.flags & L.PING and slot.conn >= 0:
        reopen(k, s)
        return
    if b.tcp:
        if outcome in (HTTP_502, HTTP_503, HTTP_504):
            outcome = EOF
        term += L.TCP
    good = False
    if slot.conn >= 0:
        good = k.conns[slot.conn].state == L.C_OPEN and not is_error(outcome)
    if not slot.flags & (L.PROBE | L.CHECK) and b.kind == L.HAPROXY and not (b.tcp and good):
        count_term(k, s, term)
    if good:
        part(k, s, True)
    release(k, s)
    if not slot.flags & L.ATWORK:  # the service goes on with what it has begun
        slot.t_phase = L.FOREVER
    if not answer(k, s, outcome, not slot.flags & L.PRESENT):
        detach(k, s)
