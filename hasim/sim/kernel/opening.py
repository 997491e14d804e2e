"""New connections to databases and stores, and the moment at which a request meets its server."""

from __future__ import annotations

from hasim.sim.kernel import layout as L
from hasim.sim.kernel.answer import second_of
from hasim.sim.kernel.calendar import arm, ready
from hasim.sim.kernel.conns import reply
from hasim.sim.kernel.layout import jit
from hasim.sim.kernel.place import release
from hasim.sim.kernel.pools import RETRANSMITS
from hasim.sim.kernel.work import arrive, hold
from hasim.sim.trace import APP_5XX, NO_ENTRY, OK


@jit
def next_host(k, s):
    """libpq: this host does not take the session, the next one of the list is tried.

    One that closes before its greeting ends the whole connect. Source: measured with psql 15.
    """
    slot = k.slots[s]
    release(k, s)
    slot.t_phase = slot.t_hap = L.FOREVER
    slot.flags &= ~L.HELD
    if slot.conn >= 0:  # command_timeout and the connection are the next host's
        if not slot.flags & L.ORPHAN:
            slot.t_cli = slot.answer_by
        k.conns[slot.conn].state, k.conns[slot.conn].edge = L.C_OPENING, -1
    slot.retries += 1
    if slot.retries < k.backends[slot.be].count:
        slot.edge = -1
        ready(k, s, L.ROUTE)
    else:
        reply(k, s, NO_ENTRY, 0)


@jit
def opened(k, s):
    """Slot s has a new connection to its server. False: it gets no session there (or not yet)."""
    slot = k.slots[s]
    b, edge, station = k.backends[slot.be], k.edges[slot.edge], k.stations[slot.st]
    alive = edge.connect == L.CONNECTS and slot.epoch == edge.epoch
    if alive and b.multi and station.frozen:
        hold(k, s, L.CONN)  # the greeting is missing: connect_timeout goes on
        return False
    if alive and b.multi == 2 and not station.writable:
        next_host(k, s)
        return False
    if alive and not station.frozen and 0 < station.most_open <= station.open:
        if not slot.flags & L.PROBE:
            k.refused[second_of(k, k.g[L.NOW]) * k.n_stations + slot.st] += 1
        if slot.conn >= 0:
            k.conns[slot.conn].state = L.C_BROKEN
        reply(k, s, APP_5XX, L.T_5XX)  # "too many clients already"
        return False
    c = slot.conn
    if c < 0:
        if alive and not slot.flags & L.PROBE:
            slot.flags |= L.OPENED
            station.open += 1
        return True
    conn = k.conns[c]
    conn.edge, conn.epoch, conn.state = slot.edge, slot.epoch, L.C_OPEN
    command = k.pools[conn.pool].command
    if command < L.FOREVER:  # it left when the server had said that the session is open
        slot.t_cli = min(slot.t_cli, k.g[L.NOW] - edge.rtt + command)
    if alive:
        conn.counted = 1
        station.open += 1
    return True


@jit
def unheard(k, s):
    """Slot s sends into silence. A direct connection is given up by TCP itself in the end."""
    slot = k.slots[s]
    b = k.backends[slot.be]
    if b.kind == L.DIRECT and (b.fresh or slot.via >= 0):
        limit = RETRANSMITS
        if slot.via >= 0:
            limit = min(limit, k.pools[slot.via].user_timeout)
        limit += k.g[L.NOW]
        slot.t_hap = min(slot.t_hap, limit) if b.multi and not slot.flags & L.RIDES else limit


@jit
def at_the_server(k, s):
    """What slot s has sent arrives: it is answered by a reset, or looked at, or taken."""
    slot = k.slots[s]
    edge = k.edges[slot.edge]
    if edge.connect == L.REFUSED or slot.epoch != edge.epoch:
        ready(k, s, L.CUT)
        return
    if not slot.flags & L.PING:
        arrive(k, s)
        return
    if k.stations[slot.st].frozen:
        hold(k, s, L.CONN)
        return
    if slot.flags & L.ORPHAN:
        reply(k, s, OK, L.T_OK)  # its caller has closed: nothing follows the ping
        return
    slot.flags &= ~L.PING  # alive: now the request itself goes the same way
    command = k.pools[slot.via].command
    if command < L.FOREVER:  # and has the whole command_timeout for itself
        slot.t_cli = min(slot.answer_by, k.g[L.NOW] + command)
    if slot.entry >= 0 and (k.edges[slot.entry].rtt > 0 or k.edges[slot.entry].connect):
        slot.t_hap = k.g[L.NOW] + min(k.pools[slot.via].user_timeout, RETRANSMITS)
        ready(k, s, L.ENTER)
    elif edge.rtt > 0:
        slot.phase = L.CONN
        slot.t_phase = k.g[L.NOW] + edge.rtt
        arm(k, s)
    else:
        arrive(k, s)
