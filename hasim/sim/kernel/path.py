"""A request on its way to a server and back: HAProxy's rules (reference/haproxy.md section 4).

A DIRECT backend is a client that dials an address itself: no retries, no queue, no status codes.
"""

from __future__ import annotations

from hasim.sim.kernel import layout as L
from hasim.sim.kernel.answer import check_result, clone
from hasim.sim.kernel.balance import ALL_FULL, NO_SERVER, choose, full, shadow
from hasim.sim.kernel.calendar import arm, ready
from hasim.sim.kernel.conns import detach, reply
from hasim.sim.kernel.layout import jit
from hasim.sim.kernel.opening import at_the_server, next_host, opened, unheard
from hasim.sim.kernel.place import assign, enqueue, observe, purge_idle, release
from hasim.sim.kernel.work import RTO, hold
from hasim.sim.trace import APP_5XX, CLIENT_4XX, EOF, HTTP_502, HTTP_503, NO_ENTRY, OK

ARP_FAILS = 3 * L.NS  # source: reference/haproxy.md 1.4, "about 3 s of ARP probing"
KILLED = 3  # a slot's term before its end: 1 refused, 2 timed out, 3 shut down at DOWN
SYN_LATE = 22_000_000  # source: measured, Linux at 250 Hz: 8 to 36 ms after 1 s (timer wheel)
TURN_AROUND = L.NS  # source: HAProxy manual 4.2 "retries": 1 s between retries on one server


@jit
def syn_offset(k, n):
    """Time of SYN retransmit n (from 0) after the first SYN: tcp_syn_linear_timeouts or doubling.

    source: Linux ip-sysctl, tcp_syn_linear_timeouts = 4 (6.5 and later): after 1, 2, 3, 4, 5, 7,
    11, 19 s; older kernels after 1, 3, 7, 15 s (RFC 6298, initial RTO 1 s). Each one is a little
    late, so that a check that times out after 2 s sends no SYN at 2 s.
    """
    late = (n + 1) * SYN_LATE
    if k.g[L.LINEAR_SYN]:
        return late + ((n + 1) * L.NS if n < 5 else (3 + (1 << (n - 3))) * L.NS)
    return late + ((1 << (n + 1)) - 1) * L.NS


@jit
def balancer_frozen(k, s):
    """Is the HAProxy process in front of slot s stopped?"""
    b = k.backends[k.slots[s].be]
    return b.kind == L.HAPROXY and k.balancers[b.bal].frozen != 0


@jit
def route(k, s, avoid):
    """Choose a server for slot s and dial it."""
    slot = k.slots[s]
    b = k.backends[slot.be]
    if slot.flags & L.PROBE:
        e = shadow(k, slot.be, s, avoid)
    elif b.multi:  # libpq goes through its hosts in their order
        e = b.first + slot.retries
    elif b.kind == L.DIRECT and b.count == 1 and not b.strict:
        e = b.first
    else:
        e = choose(k, slot.be, s, avoid)
    if e >= 0 and e == avoid:  # the only one left: no redispatch after all
        if slot.redis and not slot.flags & L.PROBE:
            k.g[L.REDISPATCHES] -= 1
        slot.redis = 0  # source: backend.c, assign_server_and_queue
    if e == NO_SERVER:
        slot.edge = -1
        reply(k, s, HTTP_503 if b.kind == L.HAPROXY else NO_ENTRY, L.T_NOSRV)
        return
    if e == ALL_FULL:
        slot.edge = -1
        enqueue(k, s, b.queue)
        return
    if full(k, e) and not slot.flags & L.PROBE:
        # a hash names one server whether it has room or not
        slot.edge = e
        if k.edges[e].maxqueue > 0 and k.queues[k.edges[e].queue].len >= k.edges[e].maxqueue:
            reply(k, s, HTTP_503, L.T_SQ)
            return
        enqueue(k, s, k.edges[e].queue)
        return
    assign(k, s, e)
    dial(k, s)


@jit
def dial(k, s):
    """Reach the assigned server: over an idle connection where the rules allow, else connect."""
    slot = k.slots[s]
    edge = k.edges[slot.edge]
    b = k.backends[slot.be]
    slot.flags &= ~(L.REUSED | L.PRESENT)
    reuse = (slot.flags & L.RIDES) != 0
    if not reuse:
        slot.epoch = edge.epoch
    if reuse or b.fresh or slot.conn >= 0 and b.kind == L.DIRECT:
        pass
    elif b.kind == L.DIRECT:
        reuse = slot.flags & L.NONFIRST and edge.connect != L.REFUSED
        reuse = reuse or (slot.parent >= 0 and edge.connect == L.CONNECTS)
    elif not slot.flags & (L.CHECK | L.PROBE) and edge.idle > 0:
        reuse = b.reuse == L.REUSE_ALWAYS or (b.reuse == L.REUSE_SAFE and slot.flags & L.NONFIRST)
        if reuse:
            edge.idle -= 1
            k.stations[slot.st].idle -= 1
            if edge.stale > 0:  # its process died unheard: a reset is all that it will answer
                edge.stale -= 1
                slot.epoch = edge.epoch - 1
    if reuse:
        slot.flags |= L.REUSED
        if edge.rtt > 0 and edge.connect == L.CONNECTS:
            slot.phase = L.CONN
            slot.t_phase = k.g[L.NOW] + edge.rtt
            slot.t_hap = L.FOREVER
            arm(k, s)
        else:
            sent(k, s)
        return
    slot.t_try = k.g[L.NOW]
    slot.trynum = 0
    if not slot.flags & L.CHECK and b.t_connect < L.FOREVER:
        slot.t_hap = k.g[L.NOW] + b.t_connect
    attempt(k, s)


@jit
def attempt(k, s):
    """One SYN to the assigned server."""
    slot = k.slots[s]
    edge = k.edges[slot.edge]
    connect = edge.connect
    if connect == L.CONNECTS:
        station = k.stations[slot.st]
        # an event loop accepts at once; a stopped process and busy sync workers leave the rest to
        # the kernel
        accepts = station.is_async and not station.frozen
        if accepts or station.inflight - station.busy < station.backlog:
            if edge.rtt > 0:
                slot.phase = L.CONN
                slot.t_phase = k.g[L.NOW] + 2 * edge.rtt
                arm(k, s)
            else:
                sent(k, s)
            return
        connect = 2  # listen backlog full: the SYN is dropped (tcp_abort_on_overflow = 0)
    if connect == L.REFUSED:
        ready(k, s, L.FAIL)
        return
    if connect == L.NO_ROUTE:
        slot.phase = L.ARP
        slot.t_phase = k.g[L.NOW] + ARP_FAILS
    else:
        slot.phase = L.SYN
        slot.t_phase = slot.t_try + syn_offset(k, slot.trynum)
        slot.trynum += 1
    arm(k, s)


@jit
def sent(k, s):
    """Connected, the request is written: `timeout server` counts from here."""
    slot = k.slots[s]
    edge = k.edges[slot.edge]
    if balancer_frozen(k, s):
        hold(k, s, L.CONN)
        return
    slot.t_phase = L.FOREVER
    slot.trynum = 0
    if slot.term == KILLED:
        reply(k, s, HTTP_502, L.T_DH)
        return
    if slot.flags & L.CHECK:
        slot.t_try = k.g[L.NOW]
        if slot.op < 0:
            check_result(k, s, 200)
            detach(k, s)
            return
        slot.t_hap = slot.answer_by
        if slot.answer_within > 0:
            slot.t_hap = k.g[L.NOW] + slot.answer_within
    else:
        if edge.observe == 1 and not slot.flags & L.PROBE:
            edge.errors = 0  # connected (backend.c, back_establish)
        b = k.backends[slot.be]
        new = not slot.flags & L.RIDES and (b.fresh or slot.conn >= 0 and b.kind == L.DIRECT)
        if new and not opened(k, s):
            return
        if not (new and b.multi and edge.connect >= 2):  # connect_timeout counts up to the greeting
            slot.t_hap = L.FOREVER if b.t_server >= L.FOREVER else k.g[L.NOW] + b.t_server
    if edge.connect >= 2:
        unheard(k, s)
        slot.phase = L.SEND
        slot.t_phase = k.g[L.NOW] + RTO
        arm(k, s)
    else:
        at_the_server(k, s)


@jit
def resend(k, s):
    """A TCP retransmit of a request sent into silence."""
    slot = k.slots[s]
    edge = k.edges[slot.edge]
    if edge.connect >= 2:
        slot.trynum += 1
        slot.t_phase = k.g[L.NOW] + (RTO << min(slot.trynum, 10))
        arm(k, s)
        return
    if k.backends[slot.be].multi and not slot.flags & L.RIDES and not opened(k, s):
        return
    if k.backends[slot.be].kind == L.DIRECT:
        slot.t_hap = L.FOREVER  # heard: the limit on unanswered data is off
    at_the_server(k, s)


@jit
def may_redispatch(k, s, actives):
    """Does a retry leave its server (stream.h, stream_choose_redispatch)?"""
    slot = k.slots[s]
    b = k.backends[slot.be]
    if b.redispatch == 0:
        return False
    if not k.edges[slot.edge].running:
        return True
    if actives > 1 and b.algo != L.SOURCE:
        return True
    every = b.interval if b.interval >= 0 else b.retries + 1 + b.interval  # -1: the last retry
    return every > 0 and slot.retries % every == 0


@jit
def connect_failed(k, s, timed_out):
    """A connect was refused, unreachable or timed out (backend.c, back_handle_st_cer)."""
    slot = k.slots[s]
    b = k.backends[slot.be]
    slot.t_phase = slot.t_hap = L.FOREVER
    if slot.flags & L.CHECK:
        check_result(k, s, L.L4TOUT if timed_out else L.L4CON)
        detach(k, s)
        return
    if b.multi:
        next_host(k, s)
        return
    if b.kind == L.DIRECT:
        reply(k, s, NO_ENTRY, 0)
        return
    if not slot.flags & L.PROBE:
        observe(k, slot.edge, False, False)
    if slot.term == 0:
        slot.term = 2 if timed_out else 1  # the first error of the request fixes the letter
    if slot.retries >= b.retries or not b.retry_on & L.ON_CONN:
        give_up(k, s)
        return
    slot.retries += 1
    if not slot.flags & L.PROBE:
        k.g[L.RETRIES] += 1
    actives = b.actives
    pause = not timed_out and not slot.flags & L.REUSED
    if may_redispatch(k, s, actives):
        failed = slot.edge
        release(k, s)
        slot.redis = 1
        if not slot.flags & L.PROBE:
            k.g[L.REDISPATCHES] += 1
        if pause and actives <= 1:
            slot.trynum = -1  # route() when the pause is over
            turn_around(k, s)
        else:
            route(k, s, failed)
    elif pause:
        turn_around(k, s)
    else:
        ready(k, s, L.DIAL)


@jit
def turn_around(k, s):
    """Wait min(1 s, timeout connect) before the next try."""
    slot = k.slots[s]
    slot.phase = L.TURN
    slot.t_phase = k.g[L.NOW] + min(TURN_AROUND, k.backends[slot.be].t_connect)
    arm(k, s)


@jit
def give_up(k, s):
    """Retries used up: the first error of the request decides."""
    slot = k.slots[s]
    if slot.term == 2 and slot.flags & L.NONFIRST:
        reply(k, s, EOF, L.T_EOFC)
    else:
        letters = L.T_SCT if slot.term == 2 else L.T_SC
        reply(k, s, HTTP_503, L.T_DC if slot.term == KILLED else letters)


@jit
def replay(k, s, bit):
    """`retry-on` beyond connect failures. True: slot s (or a clone of it) is under way again."""
    slot = k.slots[s]
    b = k.backends[slot.be]
    if not b.retry_on & bit or slot.retries >= b.retries or slot.flags & L.ORPHAN:
        return False
    if b.no_post_replay and slot.flags & L.WRITE:
        return False
    failed, keeps = slot.edge, 0
    if b.redispatch:
        release(k, s)
    else:  # its place on the server stays its own, as in the turn-around
        keeps = slot.flags & L.SLOTTED
    n = clone(k, s) if slot.flags & L.PRESENT else s
    again = k.slots[n]
    if n != s:
        slot.flags &= ~L.SLOTTED
        again.flags |= keeps
        detach(k, s)
    again.retries += 1
    again.redis = 1 if b.redispatch else again.redis
    if not again.flags & L.PROBE:
        k.g[L.RETRIES] += 1
        k.g[L.REDISPATCHES] += b.redispatch
    again.outcome = OK
    again.nrand = 0
    again.t_phase = again.t_hap = L.FOREVER
    if b.redispatch:
        again.edge = failed  # route() avoids it
        ready(k, n, L.ROUTE)
    else:
        again.edge, again.st = failed, k.edges[failed].st
        ready(k, n, L.DIAL)
    return True


@jit
def done(k, s):
    """The server's answer is here."""
    slot = k.slots[s]
    b = k.backends[slot.be]
    outcome = slot.outcome
    slot.flags &= ~L.PRESENT
    slot.t_hap = L.FOREVER
    if slot.flags & L.CHECK:
        op = k.ops[slot.op]
        check_result(k, s, op.http if outcome == op.status else op.fails)
        detach(k, s)
        return
    if b.kind == L.DIRECT:
        reply(k, s, outcome, 0)
        return
    edge = k.edges[slot.edge]
    if not slot.flags & L.PROBE:
        # a server that has closed its listener ends its connections with their last answer
        kept = slot.epoch == edge.epoch and edge.connect != L.REFUSED
        if b.reuse != L.REUSE_NEVER and kept:
            purge_idle(k, slot.edge)
            edge.idle += 1
            k.stations[slot.st].idle += 1
    if outcome == APP_5XX and replay(k, s, L.ON_5XX):
        return
    if not slot.flags & L.PROBE:
        observe(k, slot.edge, True, outcome != APP_5XX)
    term = L.T_OK
    if outcome == APP_5XX:
        term = L.T_5XX
    elif outcome == CLIENT_4XX:
        term = L.T_4XX
    reply(k, s, outcome, term)


@jit
def cut(k, s):
    """The server closed the connection before it answered."""
    slot = k.slots[s]
    b = k.backends[slot.be]
    slot.flags &= ~L.PRESENT
    slot.t_phase = slot.t_hap = L.FOREVER
    if slot.flags & L.CHECK:
        check_result(k, s, L.L7RSP)
        detach(k, s)
        return
    if b.kind == L.DIRECT:
        reply(k, s, EOF, 0)
        return
    if replay(k, s, L.ON_EMPTY):
        return
    silent = slot.flags & L.NONFIRST if b.close_rule == 0 else slot.flags & L.REUSED
    if silent:  # no error of the server (http_ana.c, abort_keep_alive)
        reply(k, s, EOF, L.T_EOF)
    else:
        if not slot.flags & L.PROBE:
            observe(k, slot.edge, True, False)
        reply(k, s, HTTP_502, L.T_SH)
