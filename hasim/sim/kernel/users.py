"""Clients: iterations of virtual users, arrivals, shadow probes, the way in."""

from __future__ import annotations

import math

import numpy as np

from hasim.sim.kernel import layout as L
from hasim.sim.kernel.answer import (
    answer,
    count_active,
    drop_connection,
    leave_frontend,
    second_of,
)
from hasim.sim.kernel.calendar import allocate, arm, push, ready, schedule
from hasim.sim.kernel.conns import detach, reopen
from hasim.sim.kernel.draw import sample, unit, words
from hasim.sim.kernel.layout import jit
from hasim.sim.kernel.path import syn_offset
from hasim.sim.kernel.place import release
from hasim.sim.kernel.work import RTO
from hasim.sim.trace import EOF, NO_ENTRY, OPEN

# The entity word of a demand: users count from 1, the rest lives above them.
ARRIVALS = 1 << 40
PROBES = 2 << 40


@jit
def begin(k, u, ordinal, entity):
    """User u begins a request: which operation, how long the pause after it, its demand."""
    user = k.users[u]
    flow = k.flow[user.flow]
    block = words(k, np.uint64(ordinal), np.uint64(entity), np.uint64(0), np.uint64(0))
    x = unit(block[0])
    op = k.mix[flow.first + flow.count - 1].op
    for i in range(flow.first, flow.first + flow.count):
        if x < k.mix[i].upto:
            op = k.mix[i].op
            break
    user.think = sample(k, flow.think, block[1])
    user.state = L.BUSY
    s = allocate(k, 0)
    user.slot = s
    slot = k.slots[s]
    slot.user, slot.op = u, op
    slot.ordinal, slot.entity = np.uint64(ordinal), np.uint64(entity)
    slot.w2, slot.w3 = block[2], block[3]
    slot.t_begin = k.g[L.NOW]
    slot.t_cli = k.g[L.NOW] + k.g[L.CLIENT_TIMEOUT]
    slot.seg = k.g[L.SEGMENT]
    if k.ops[op].write:
        slot.flags = L.WRITE
    k.started[second_of(k, k.g[L.NOW]) * k.g[L.NOPS] + op] += 1
    k.g[L.STARTED] += 1
    count_active(k, 1)
    return s


@jit
def enter(k, s):
    """The client opens or reuses its connection to the way in of the operation."""
    slot = k.slots[s]
    slot.trynum = 0
    if slot.entry >= 0:  # a nested call through a TCP frontend: spawn() has set it up
        slot.t_try = k.g[L.NOW]
        knock(k, s)
        return
    op = k.ops[slot.op]
    slot.be, slot.entry = op.be, op.entry
    slot.t_hap = L.FOREVER
    u = slot.user
    if op.entry < 0:
        if u >= 0 and k.g[L.KEEP_ALIVE]:
            if k.users[u].conn == k.backends[op.be].first:
                slot.flags |= L.NONFIRST
            else:
                drop_connection(k, u)
            k.users[u].conn = k.backends[op.be].first
        ready(k, s, L.ROUTE)
        return
    if u >= 0:
        user = k.users[u]
        if user.conn >= 0:
            same = user.conn == op.entry
            # a negative epoch: its far end has moved away and the client does not know (sim/vip.py)
            alive = user.epoch < 0 or user.epoch == k.balancers[k.edges[op.entry].bal].epoch
            if same and alive and k.g[L.NOW] - user.t_last <= op.keep_alive:
                slot.flags |= L.NONFIRST
            else:
                drop_connection(k, u)
    slot.t_try = k.g[L.NOW]
    if not slot.flags & L.NONFIRST:
        slot.t_hap = k.g[L.NOW] + k.g[L.CLIENT_CONNECT]
    knock(k, s)


@jit
def knock(k, s):
    """One try to get the connection, or the request, to the way in."""
    slot = k.slots[s]
    edge = k.edges[slot.entry]
    slot.phase = L.ENTRY
    if edge.connect == L.REFUSED:
        reply_entry(k, s)
        return
    if edge.connect != L.CONNECTS:
        if slot.flags & L.NONFIRST:
            slot.t_phase = k.g[L.NOW] + (RTO << min(slot.trynum, 10))
        else:
            slot.t_phase = slot.t_try + syn_offset(k, slot.trynum)
        slot.trynum += 1
        arm(k, s)
        return
    slot.trynum = -1  # through: what is left is the round trip
    if edge.rtt == 0:
        admit(k, s)
        return
    slot.t_phase = k.g[L.NOW] + (edge.rtt if slot.flags & L.NONFIRST else 2 * edge.rtt)
    arm(k, s)


@jit
def reply_entry(k, s):
    """The way in refused, or stayed silent for the client's connect timeout."""
    fail_entry(k, s, NO_ENTRY)


@jit
def fail_entry(k, s, outcome):
    """The request of slot s does not get into HAProxy."""
    if k.slots[s].flags & L.PING and k.slots[s].conn >= 0:
        reopen(k, s)
        return
    release(k, s)
    k.slots[s].edge = -1
    k.slots[s].t_phase = k.slots[s].t_hap = L.FOREVER
    if not answer(k, s, outcome, True):
        detach(k, s)


@jit
def entry_event(k, s):
    """The timer of a slot on its way in."""
    slot = k.slots[s]
    if slot.trynum < 0 and k.edges[slot.entry].connect == L.CONNECTS:
        admit(k, s)
    elif slot.trynum < 0:  # the way in has changed while the request was on it
        slot.trynum = 0
        knock(k, s)
    else:
        knock(k, s)


@jit
def admit(k, s):
    """At the frontend: a new connection needs a place among maxconn, else the kernel backlog."""
    slot = k.slots[s]
    bal = k.edges[slot.entry].bal
    balancer = k.balancers[bal]
    if slot.flags & L.RIDES:
        if slot.conn >= 0 and is_dead_at(k, slot.conn, balancer.epoch):
            fail_entry(k, s, EOF)
            return
        slot.t_phase = slot.t_hap = L.FOREVER
        ready(k, s, L.DIAL)
        return
    if slot.flags & L.NONFIRST and k.users[slot.user].epoch != balancer.epoch:
        fail_entry(k, s, EOF)  # the process that had this connection is dead: reset
        return
    slot.t_phase = slot.t_hap = L.FOREVER
    if slot.flags & L.NONFIRST:
        ready(k, s, L.ROUTE)
        return
    if balancer.conns >= balancer.maxconn:
        slot.phase = L.ADMIT
        push(k, balancer.queue, s)
        arm(k, s)
        return
    if not slot.flags & L.PROBE:
        balancer.conns += 1
    admitted(k, s)


@jit
def is_dead_at(k, c, epoch):
    """Does HAProxy know the connection of a pool no more (cut when idle, or another process)?"""
    conn = k.conns[c]
    return conn.cut or conn.bal < 0 or conn.bal_epoch != epoch


@jit
def admitted(k, s):
    """The connection is accepted."""
    slot = k.slots[s]
    if slot.flags & L.ORPHAN:  # it gave up while HAProxy stood still
        if not slot.flags & L.PROBE:
            leave_frontend(k, k.edges[slot.entry].bal)
        detach(k, s)
        return
    if slot.user >= 0:
        user = k.users[slot.user]
        user.conn = slot.entry
        user.epoch = k.balancers[k.edges[user.conn].bal].epoch
    elif slot.conn >= 0:
        conn = k.conns[slot.conn]
        conn.bal = k.edges[slot.entry].bal
        conn.bal_epoch = k.balancers[conn.bal].epoch
    elif slot.via >= 0 or k.backends[slot.be].tcp:
        slot.flags |= L.FRONT if not slot.flags & L.PROBE else 0
    ready(k, s, L.ROUTE)


@jit
def user_event(k, u):
    """The calendar entry of a user: begin, go on, stop, or be interrupted."""
    user = k.users[u]
    now = k.g[L.NOW]
    if user.state == L.BUSY:
        # only the end of gracefulStop wakes a busy user: the iteration is interrupted
        s = user.slot
        if not answer(k, s, OPEN, False):
            k.slots[s].t_cli = L.FOREVER
            arm_orphan(k, s)
        return
    if k.g[L.OPEN_LOOP]:
        if user.flow == 0:
            user.next_free = k.g[L.FREE_USER]
            k.g[L.FREE_USER] = u
        else:
            ready(k, begin(k, u, user.ordinal * k.g[L.NFLOW] + user.flow, ARRIVALS), L.ENTER)
        return
    if user.state == L.OFF:
        user.state = L.THINKING
        user.stop = k.spans[user.span].stop
        k.g[L.VUS] += 1
    elif now >= user.stop and user.flow == 0 or now >= k.spans[user.span].kill:
        user.state = L.OFF
        k.g[L.VUS] -= 1
        drop_connection(k, u)
        user.flow = 0
        user.span += 1
        if user.span < user.last_span:
            schedule(k, k.g[L.NODE_USER] + u, k.spans[user.span].start)
        return
    ordinal = user.ordinal
    user.ordinal += 1
    s = begin(k, u, ordinal, u + 1)
    # before enter(): a request that is refused at once sets the user's next moment itself
    if k.spans[user.span].kill < L.FOREVER:
        schedule(k, k.g[L.NODE_USER] + u, k.spans[user.span].kill)
    enter(k, s)


@jit
def arm_orphan(k, s):
    """The client is gone: what does not need it any more goes on by itself, the rest ends."""
    slot = k.slots[s]
    if slot.phase in (L.ENTRY, L.ADMIT, L.BACKOFF):
        detach(k, s)
    else:
        arm(k, s)


@jit
def rate_time(k, gen, need):
    """When the cumulative rate of the executor reaches `need`; FOREVER if it never does."""
    for i in range(gen.at, gen.first + gen.count):
        piece = k.rates[i]
        span = (piece.t1 - piece.t0) * 1e-9
        total = piece.sum0 + piece.r0 * span + 0.5 * piece.slope * span * span
        if need <= total:
            gen.at = i
            x = need - piece.sum0
            root = math.sqrt(max(0.0, piece.r0 * piece.r0 + 2.0 * piece.slope * x))
            dt = 2.0 * x / (piece.r0 + root) if piece.r0 + root > 0.0 else 0.0
            return piece.t0 + np.int64(dt * 1e9)
    return L.FOREVER


@jit
def next_arrival(k, i):
    """Schedule the next arrival of generator i: evenly spaced (k6) or Poisson."""
    gen = k.gens[i]
    if gen.poisson:
        block = words(k, np.uint64(gen.number), np.uint64(ARRIVALS + 1), np.uint64(0), np.uint64(0))
        gen.sum += -math.log(1.0 - unit(block[0]))
    else:
        gen.sum = float(gen.number)
    schedule(k, k.g[L.NODE_GEN] + i, rate_time(k, gen, gen.sum))


@jit
def generator_event(k, i):
    """An arrival or a shadow probe is due."""
    gen = k.gens[i]
    if gen.kind == 1:
        probe(k, i)
        return
    number = gen.number
    gen.number += 1
    next_arrival(k, i)
    u = k.g[L.FREE_USER]
    if u < 0 and k.g[L.NUSERS] < min(k.g[L.MAX_USERS], k.n_users):
        u = k.g[L.NUSERS]
        k.g[L.NUSERS] += 1
    elif u >= 0:
        k.g[L.FREE_USER] = k.users[u].next_free
    else:
        k.g[L.DROPPED] += 1
        return
    k.users[u].ordinal = number
    ready(k, begin(k, u, number * k.g[L.NFLOW], ARRIVALS), L.ENTER)


@jit
def probe(k, i):
    """Send one shadow probe of path i."""
    gen = k.gens[i]
    number = gen.number
    gen.number += 1
    if k.g[L.NOW] + gen.every < gen.until:
        schedule(k, k.g[L.NODE_GEN] + i, k.g[L.NOW] + gen.every)
    entity = np.uint64(PROBES + i)
    block = words(k, np.uint64(number), entity, np.uint64(0), np.uint64(0))
    s = allocate(k, 1)
    slot = k.slots[s]
    slot.flags = L.PROBE
    slot.op, slot.check = gen.op, i
    slot.ordinal, slot.entity = np.uint64(number), entity
    slot.w2, slot.w3 = block[2], block[3]
    slot.t_begin = k.g[L.NOW]
    slot.t_cli = k.g[L.NOW] + gen.timeout
    ready(k, s, L.ENTER)
