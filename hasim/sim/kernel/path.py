"""A request on its way to a server and back: HAProxy's rules (reference/haproxy.md section 4).

A DIRECT backend is a client that dials an address itself: no retries, no queue, no status codes.
"""

from __future__ import annotations

from hasim.sim.kernel.answer import (
    answer,
    check_result,
    clone,
    count_term,
    detach,
    notice,
)
from hasim.sim.kernel.balance import (
    ALL_FULL,
    NO_SERVER,
    choose,
    full,
    give,
    shadow,
    take,
)
from hasim.sim.kernel.calendar import arm, push, ready, remove, unlink
from hasim.sim.kernel.layout import (
    ARP,
    CHECK,
    CONN,
    CONNECTS,
    CUT,
    DIAL,
    DIRECT,
    FAIL,
    FOREVER,
    HAPROXY,
    L4CON,
    L4TOUT,
    L7RSP,
    LINEAR_SYN,
    N_OBSERVED,
    NO_ROUTE,
    NODE_SLOT,
    NONFIRST,
    NOW,
    NS,
    ON_5XX,
    ON_EMPTY,
    ORPHAN,
    PRESENT,
    PROBE,
    QUEUE,
    REDISPATCHES,
    REFUSED,
    RETRIES,
    REUSE_ALWAYS,
    REUSE_NEVER,
    REUSE_SAFE,
    REUSED,
    ROUTE,
    SEND,
    SLOTTED,
    SOURCE,
    SYN,
    T_4XX,
    T_5XX,
    T_EOF,
    T_EOFC,
    T_NOSRV,
    T_OK,
    T_SC,
    T_SCT,
    T_SH,
    T_SQ,
    TURN,
    apart,
    jit,
)
from hasim.sim.kernel.work import RTO, arrive
from hasim.sim.trace import APP_5XX, CLIENT_4XX, EOF, HTTP_502, HTTP_503, NO_ENTRY, OK

ARP_FAILS = 3 * NS  # source: reference/haproxy.md 1.4, "about 3 s of ARP probing"
SYN_LATE = 22_000_000  # source: measured, Linux at 250 Hz: 8 to 36 ms after 1 s (timer wheel)
TURN_AROUND = NS  # source: HAProxy manual 4.2 "retries": 1 s between retries on one server


@jit
def syn_offset(k, n):
    """Time of SYN retransmit n (from 0) after the first SYN: tcp_syn_linear_timeouts or doubling.

    source: Linux ip-sysctl, tcp_syn_linear_timeouts = 4 (6.5 and later): after 1, 2, 3, 4, 5, 7,
    11, 19 s; older kernels after 1, 3, 7, 15 s (RFC 6298, initial RTO 1 s). Each one is a little
    late, so that a check that times out after 2 s sends no SYN at 2 s.
    """
    late = (n + 1) * SYN_LATE
    if k.g[LINEAR_SYN]:
        return late + ((n + 1) * NS if n < 5 else (3 + (1 << (n - 3))) * NS)
    return late + ((1 << (n + 1)) - 1) * NS


@jit
def observe(k, e, good):
    """`observe`: consecutive errors of live traffic; at error-limit tell the control plane."""
    apart()
    edge = k.edges[e]
    if edge.observe == 0:
        return
    if good:
        edge.errors = 0
        return
    edge.errors += 1
    if edge.errors >= edge.error_limit:
        edge.errors = 0
        notice(k, N_OBSERVED, e, 0)


@jit
def assign(k, s, e):
    """Slot s belongs to server e from now on."""
    slot = k.slots[s]
    slot.edge = e
    slot.st = k.edges[e].st
    if not slot.flags & (PROBE | CHECK):
        take(k, e)
        slot.flags |= SLOTTED


@jit
def serve_queue(k, e):
    """Server e has room: waiting requests of its own queue, then of the backend's, go to it."""
    apart()
    edge = k.edges[e]
    be_queue = k.backends[edge.be].queue
    if k.queues[edge.queue].len == 0 and k.queues[be_queue].len == 0:
        return
    while edge.maxconn == 0 or edge.served < edge.maxconn:
        s = k.queues[edge.queue].head
        if s < 0 and edge.usable:
            s = k.queues[be_queue].head
        if s < 0:
            return
        remove(k, s)
        unlink(k, k.g[NODE_SLOT] + s)
        k.slots[s].t_hap = FOREVER
        assign(k, s, e)
        ready(k, s, DIAL)


@jit
def release(k, s):
    """Slot s gives its place on the server back."""
    slot = k.slots[s]
    if slot.flags & SLOTTED:
        slot.flags &= ~SLOTTED
        give(k, slot.edge)
        serve_queue(k, slot.edge)


@jit
def reply(k, s, outcome, term):
    """HAProxy (or the direct connection) answers the caller of slot s."""
    apart()
    slot = k.slots[s]
    if not slot.flags & (PROBE | CHECK) and k.backends[slot.be].kind == HAPROXY:
        count_term(k, s, term)
    release(k, s)
    slot.t_phase = FOREVER
    if not answer(k, s, outcome, not slot.flags & PRESENT):
        detach(k, s)


@jit
def enqueue(k, s, q):
    """Wait in a queue of HAProxy, `timeout queue` at most."""
    apart()
    slot = k.slots[s]
    slot.phase = QUEUE
    slot.t_phase = FOREVER
    slot.t_hap = k.g[NOW] + k.backends[slot.be].t_queue
    push(k, q, s)
    arm(k, s)


@jit
def route(k, s, avoid):
    """Choose a server for slot s and dial it."""
    apart()
    slot = k.slots[s]
    b = k.backends[slot.be]
    if slot.flags & PROBE:
        e = shadow(k, slot.be)
        if e >= 0 and full(k, e):
            e = ALL_FULL
    elif b.kind == DIRECT and b.count == 1:
        e = b.first
    else:
        e = choose(k, slot.be, s, avoid)
    if e == NO_SERVER:
        slot.edge = -1
        reply(k, s, HTTP_503 if b.kind == HAPROXY else NO_ENTRY, T_NOSRV)
        return
    if e == ALL_FULL:
        enqueue(k, s, b.queue)
        return
    if full(k, e) and not slot.flags & PROBE:
        # a hash names one server whether it has room or not
        slot.edge = e
        if k.edges[e].maxqueue > 0 and k.queues[k.edges[e].queue].len >= k.edges[e].maxqueue:
            reply(k, s, HTTP_503, T_SQ)
            return
        enqueue(k, s, k.edges[e].queue)
        return
    assign(k, s, e)
    dial(k, s)


@jit
def dial(k, s):
    """Reach the assigned server: over an idle connection where the rules allow, else connect."""
    apart()
    slot = k.slots[s]
    edge = k.edges[slot.edge]
    b = k.backends[slot.be]
    slot.flags &= ~(REUSED | PRESENT)
    slot.epoch = edge.epoch
    reuse = False
    if b.kind == DIRECT:
        reuse = (slot.flags & NONFIRST) != 0 or (slot.parent >= 0 and edge.connect == CONNECTS)
    elif not slot.flags & (CHECK | PROBE) and edge.idle > 0:
        reuse = b.reuse == REUSE_ALWAYS or (b.reuse == REUSE_SAFE and slot.flags & NONFIRST)
        if reuse:
            edge.idle -= 1
            k.stations[slot.st].idle -= 1
    if reuse:
        slot.flags |= REUSED
        if edge.rtt > 0 and edge.connect == CONNECTS:
            slot.phase = CONN
            slot.t_phase = k.g[NOW] + edge.rtt
            slot.t_hap = FOREVER
            arm(k, s)
        else:
            sent(k, s)
        return
    slot.t_try = k.g[NOW]
    slot.trynum = 0
    if not slot.flags & CHECK and b.t_connect < FOREVER:
        slot.t_hap = k.g[NOW] + b.t_connect
    attempt(k, s)


@jit
def attempt(k, s):
    """One SYN to the assigned server."""
    apart()
    slot = k.slots[s]
    edge = k.edges[slot.edge]
    connect = edge.connect
    if connect == CONNECTS:
        station = k.stations[slot.st]
        if k.queues[station.queue].len < station.backlog:
            if edge.rtt > 0:
                slot.phase = CONN
                slot.t_phase = k.g[NOW] + 2 * edge.rtt
                arm(k, s)
            else:
                sent(k, s)
            return
        connect = 2  # listen backlog full: the SYN is dropped (tcp_abort_on_overflow = 0)
    if connect == REFUSED:
        ready(k, s, FAIL)
        return
    if connect == NO_ROUTE:
        slot.phase = ARP
        slot.t_phase = k.g[NOW] + ARP_FAILS
    else:
        slot.phase = SYN
        slot.t_phase = slot.t_try + syn_offset(k, slot.trynum)
        slot.trynum += 1
    arm(k, s)


@jit
def sent(k, s):
    """Connected, the request is written: `timeout server` counts from here."""
    apart()
    slot = k.slots[s]
    edge = k.edges[slot.edge]
    slot.t_phase = FOREVER
    slot.trynum = 0
    if slot.flags & CHECK:
        if slot.op < 0:
            check_result(k, s, 200)
            detach(k, s)
            return
        slot.t_hap = slot.answer_by
        if slot.answer_within > 0:
            slot.t_hap = k.g[NOW] + slot.answer_within
    else:
        t_server = k.backends[slot.be].t_server
        slot.t_hap = FOREVER if t_server >= FOREVER else k.g[NOW] + t_server
    if edge.connect >= 2:
        slot.phase = SEND
        slot.t_phase = k.g[NOW] + RTO
        arm(k, s)
    elif edge.connect == REFUSED or slot.epoch != edge.epoch:
        ready(k, s, CUT)
    else:
        arrive(k, s)


@jit
def resend(k, s):
    """A TCP retransmit of a request sent into silence."""
    apart()
    slot = k.slots[s]
    edge = k.edges[slot.edge]
    if edge.connect >= 2:
        slot.trynum += 1
        slot.t_phase = k.g[NOW] + (RTO << min(slot.trynum, 10))
        arm(k, s)
    elif edge.connect == REFUSED or slot.epoch != edge.epoch:
        ready(k, s, CUT)
    else:
        arrive(k, s)


@jit
def may_redispatch(k, s, actives):
    """Does a retry leave its server (stream.h, stream_choose_redispatch)?"""
    slot = k.slots[s]
    b = k.backends[slot.be]
    if b.redispatch == 0:
        return False
    if not k.edges[slot.edge].running:
        return True
    if actives > 1 and b.algo != SOURCE:
        return True
    if b.interval < 0:
        return (b.retries - slot.retries) % -b.interval == 0
    return b.interval > 0 and slot.retries % b.interval == 0


@jit
def connect_failed(k, s, timed_out):
    """A connect was refused, unreachable or timed out (backend.c, back_handle_st_cer)."""
    apart()
    slot = k.slots[s]
    b = k.backends[slot.be]
    slot.t_phase = slot.t_hap = FOREVER
    if slot.flags & CHECK:
        check_result(k, s, L4TOUT if timed_out else L4CON)
        detach(k, s)
        return
    if b.kind == DIRECT:
        reply(k, s, NO_ENTRY, 0)
        return
    if not slot.flags & PROBE:
        observe(k, slot.edge, False)
    if slot.term == 0:
        slot.term = 2 if timed_out else 1  # the first error of the request fixes the letter
    if slot.retries >= b.retries:
        give_up(k, s, timed_out)
        return
    slot.retries += 1
    if not slot.flags & PROBE:
        k.g[RETRIES] += 1
    actives = b.actives
    pause = not timed_out and not slot.flags & REUSED
    if may_redispatch(k, s, actives):
        failed = slot.edge
        release(k, s)
        slot.redis = 1
        if not slot.flags & PROBE:
            k.g[REDISPATCHES] += 1
        if pause and actives <= 1:
            turn_around(k, s)
        else:
            route(k, s, failed)
    elif pause:
        turn_around(k, s)
    else:
        ready(k, s, DIAL)


@jit
def turn_around(k, s):
    """Wait min(1 s, timeout connect) before the next try."""
    slot = k.slots[s]
    slot.phase = TURN
    slot.t_phase = k.g[NOW] + min(TURN_AROUND, k.backends[slot.be].t_connect)
    arm(k, s)


@jit
def give_up(k, s, timed_out):
    """Retries used up."""
    slot = k.slots[s]
    silent = k.backends[slot.be].close_rule == 0 and slot.flags & NONFIRST
    if timed_out and silent:
        reply(k, s, EOF, T_EOFC)
    else:
        reply(k, s, HTTP_503, T_SCT if slot.term == 2 else T_SC)


@jit
def replay(k, s, bit):
    """`retry-on` beyond connect failures. True: slot s (or a clone of it) is under way again."""
    apart()
    slot = k.slots[s]
    b = k.backends[slot.be]
    if not b.retry_on & bit or slot.retries >= b.retries or slot.flags & ORPHAN:
        return False
    failed = slot.edge
    release(k, s)
    n = clone(k, s) if slot.flags & PRESENT else s
    again = k.slots[n]
    if n != s:
        detach(k, s)
    again.retries += 1
    again.redis = 1 if b.redispatch else again.redis
    if not again.flags & PROBE:
        k.g[RETRIES] += 1
    again.outcome = OK
    again.nrand = 0
    again.t_phase = again.t_hap = FOREVER
    if b.redispatch:
        again.edge = failed  # route() avoids it
        ready(k, n, ROUTE)
    else:
        assign(k, n, failed)
        ready(k, n, DIAL)
    return True


@jit
def done(k, s):
    """The server's answer is here."""
    apart()
    slot = k.slots[s]
    b = k.backends[slot.be]
    outcome = slot.outcome
    slot.flags &= ~PRESENT
    slot.t_hap = FOREVER
    if slot.flags & CHECK:
        check_result(k, s, k.ops[slot.op].http if outcome == k.ops[slot.op].status else 500)
        detach(k, s)
        return
    if b.kind == DIRECT:
        reply(k, s, outcome, 0)
        return
    edge = k.edges[slot.edge]
    if not slot.flags & PROBE:
        observe(k, slot.edge, outcome != APP_5XX or edge.observe == 1)
        if b.reuse != REUSE_NEVER and slot.epoch == edge.epoch:
            edge.idle += 1
            k.stations[slot.st].idle += 1
    if outcome == APP_5XX and replay(k, s, ON_5XX):
        return
    term = T_OK
    if outcome == APP_5XX:
        term = T_5XX
    elif outcome == CLIENT_4XX:
        term = T_4XX
    reply(k, s, outcome, term)


@jit
def cut(k, s):
    """The server closed the connection before it answered."""
    apart()
    slot = k.slots[s]
    b = k.backends[slot.be]
    slot.flags &= ~PRESENT
    slot.t_phase = slot.t_hap = FOREVER
    if slot.flags & CHECK:
        check_result(k, s, L7RSP)
        detach(k, s)
        return
    if b.kind == DIRECT:
        reply(k, s, EOF, 0)
        return
    if not slot.flags & PROBE:
        observe(k, slot.edge, False)
    if replay(k, s, ON_EMPTY):
        return
    silent = slot.flags & NONFIRST if b.close_rule == 0 else slot.flags & REUSED
    if silent:
        reply(k, s, EOF, T_EOF)
    else:
        reply(k, s, HTTP_502, T_SH)
