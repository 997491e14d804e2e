"""What a caller does with its answer: statistics, the user's next move, the parent's next step."""

from __future__ import annotations

import numpy as np

from hasim.sim.kernel.calendar import allocate, arm, free, ready, remove, schedule, unlink
from hasim.sim.kernel.draw import bit_length, unit, words
from hasim.sim.kernel.layout import (
    ACTIVE,
    ADMITTED_IN,
    AREA,
    AREA_T,
    ATWORK,
    BACKOFF,
    CHECK,
    CLIENT_BACKOFF,
    CLIENT_RETRIED,
    CLIENT_RETRIES,
    CLIENT_TIMEOUT,
    ENTER,
    FAULTED,
    FINISHED,
    FOREVER,
    FREE_USER,
    INTERRUPTED,
    ITERATIONS,
    JITTER_PPM,
    KEEP_ALIVE,
    LATENCY_SUM,
    N_CHECK,
    N_FLUSH,
    NFLOW,
    NODE_SLOT,
    NODE_USER,
    NONFIRST,
    NOPS,
    NOTES,
    NOW,
    NPROBES,
    NREQUESTS,
    NS,
    NSEGMENT,
    OPEN_LOOP,
    ORPHAN,
    PROBE,
    REPLAY,
    REPLAYED,
    REPLAYS,
    REQUESTS_ON,
    RETURN,
    SECONDS,
    SEGMENT,
    TERMS,
    THINKING,
    WARM,
    WRITE,
    ZOMBIE,
    apart,
    jit,
)
from hasim.sim.trace import BUCKETS, EOF, LOW, OK, OPEN, OUTCOMES, SUB, TIMEOUT

N_OUTCOMES = len(OUTCOMES)
N_TERMS = len(TERMS)


@jit
def notice(k, kind, subject, value):
    """Tell the control plane; advance() returns at this instant."""
    n = k.g[NOTES]
    if n < k.n_notices:
        row = k.notices[n]
        row.t, row.kind, row.subject, row.value = k.g[NOW], kind, subject, value
        k.g[NOTES] = n + 1


@jit
def bucket_of(ns):
    """Latency bucket: 64 per octave from 2**LOW ns (trace.bucket_edges_s)."""
    if ns < 1 << LOW:
        return 0
    octave = bit_length(ns) - 1
    sub = (ns >> (octave - 6)) & (SUB - 1)
    return min(BUCKETS - 1, (octave - LOW) * SUB + sub)


@jit
def second_of(k, t):
    """Index of the second of the load in which t lies, kept inside the arrays."""
    return max(0, min(k.g[SECONDS] - 1, (t - k.g[WARM]) // NS))


@jit
def new_segment(k):
    """Open a new segment; when all are used the last one goes on."""
    apart()
    n = k.g[NSEGMENT]
    if n < k.n_segments:
        k.segments[n] = k.g[NOW]
        k.g[SEGMENT] = n
        k.g[NSEGMENT] = n + 1


@jit
def count_active(k, change):
    """Integral form of Little's law: area under the number of requests in the system."""
    k.g[AREA] += k.g[ACTIVE] * (k.g[NOW] - k.g[AREA_T])
    k.g[AREA_T] = k.g[NOW]
    k.g[ACTIVE] += change


@jit
def count_term(k, s, term):
    """One line of HAProxy's log."""
    slot = k.slots[s]
    k.terms[(slot.edge + 1) * N_TERMS + term] += 1
    slot.term = term + 100


@jit
def record(k, s, outcome):
    """Book the end of a user's request."""
    apart()
    slot, now = k.slots[s], k.g[NOW]
    latency = now - slot.t_begin
    cell = (slot.seg * k.g[NOPS] + slot.op) * N_OUTCOMES + outcome
    bucket = 0 if outcome == OPEN else bucket_of(latency)
    k.hist[cell * BUCKETS + bucket] += 1
    k.sums[cell] += latency * 1e-9
    second = second_of(k, now) * k.g[NOPS] + slot.op
    if outcome == OK:
        k.ok[second] += 1
    else:
        k.failed[second] += 1
    k.scratch[bucket] += 1
    k.g[FINISHED] += 1
    k.g[LATENCY_SUM] += latency
    count_active(k, -1)
    if k.g[REQUESTS_ON]:
        row = k.requests[k.g[NREQUESTS]]
        row.t, row.latency, row.op, row.edge = slot.t_begin, latency, slot.op, slot.edge
        row.outcome, row.term, row.retries = outcome, slot.term, slot.retries
        row.redispatched = slot.redis
        k.g[NREQUESTS] += 1
        if k.g[NREQUESTS] >= k.n_requests - 1:
            notice(k, N_FLUSH, 0, 0)


@jit
def record_probe(k, s, outcome):
    """Book the end of a shadow probe; the first good one after a bad one begins a segment."""
    apart()
    slot = k.slots[s]
    n = k.g[NPROBES]
    if n < k.n_probes:
        row = k.probes[n]
        row.t, row.latency = slot.t_begin, k.g[NOW] - slot.t_begin
        row.path, row.outcome = slot.check, outcome
        k.g[NPROBES] = n + 1
    gen = k.gens[slot.check]
    if outcome != OK:
        gen.bad = 1
    elif gen.bad:
        gen.bad = 0
        if k.g[FAULTED]:
            new_segment(k)


@jit
def drop_connection(k, u):
    """The user's client connection is closed; a client in the backlog may take its place."""
    apart()
    user = k.users[u]
    if user.conn < 0:
        return
    bal = k.edges[user.conn].bal
    user.conn = -1
    if bal >= 0 and k.balancers[bal].epoch == user.epoch:
        leave_frontend(k, bal)


@jit
def leave_frontend(k, bal):
    """One client connection fewer on the balancer."""
    apart()
    balancer = k.balancers[bal]
    balancer.conns -= 1
    waiting = k.queues[balancer.queue].head
    while waiting >= 0:
        following = k.slots[waiting].qnext
        take_place = not (k.slots[waiting].flags & PROBE)
        remove(k, waiting)
        unlink(k, k.g[NODE_SLOT] + waiting)
        k.slots[waiting].t_phase = FOREVER
        ready(k, waiting, ADMITTED_IN)
        if take_place:
            balancer.conns += 1
            return
        waiting = following


@jit
def user_next(k, u):
    """The user's request is over: think, or give the user back to the arrival executor."""
    apart()
    user = k.users[u]
    user.slot = -1
    user.flow += 1
    if user.flow >= k.g[NFLOW]:
        user.flow = 0
        k.g[ITERATIONS] += 1
        if k.g[OPEN_LOOP] and user.think <= 0:
            user.state = THINKING
            user.next_free = k.g[FREE_USER]
            k.g[FREE_USER] = u
            return
    user.state = THINKING
    schedule(k, k.g[NODE_USER] + u, k.g[NOW] + user.think)


@jit
def clone(k, s):
    """A second slot for the same call: the first goes on as work that nobody waits for."""
    apart()
    n = allocate(k)
    old, new = k.slots[s], k.slots[n]
    new.flags = old.flags & (PROBE | CHECK | WRITE | REPLAYED | NONFIRST)
    new.user, new.parent, new.op, new.be = old.user, old.parent, old.op, old.be
    new.retries, new.term, new.seg, new.check = old.retries, old.term, old.seg, old.check
    new.redis, new.t_begin, new.t_cli = old.redis, old.t_begin, old.t_cli
    new.ordinal, new.entity, new.path = old.ordinal, old.entity, old.path
    new.w2, new.w3, new.pc = old.w2, old.w3, k.ops[old.op].pc
    if old.user >= 0:
        k.users[old.user].slot = n
    if old.parent >= 0:
        k.slots[old.parent].child = n
    old.flags |= ORPHAN | ZOMBIE
    old.user = old.parent = -1
    return n


@jit
def try_again(k, s, outcome, reusable):
    """A client's own second try: k6's silent replay, or retries with back-off. The slot, or -1."""
    apart()
    slot = k.slots[s]
    replay = (
        outcome == EOF
        and k.g[REPLAY]
        and (slot.flags & NONFIRST)
        and not (slot.flags & (WRITE | REPLAYED))
    )
    again = outcome != OK and outcome != OPEN and slot.tries < k.g[CLIENT_RETRIES]
    if not replay and not again:
        return -1
    tries = slot.tries
    n = s if reusable else clone(k, s)
    new = k.slots[n]
    new.flags &= WRITE | REPLAYED
    new.retries = new.term = new.nrand = new.redis = new.trynum = 0
    new.edge = new.st = new.be = -1
    new.outcome = OK
    new.t_phase = new.t_hap = FOREVER
    new.t_cli = k.g[NOW] + k.g[CLIENT_TIMEOUT]
    unlink(k, k.g[NODE_SLOT] + n)
    if replay:
        new.flags |= REPLAYED
        k.g[REPLAYS] += 1
        ready(k, n, ENTER)
        return n
    new.tries = tries + 1
    k.g[CLIENT_RETRIED] += 1
    block = words(k, new.ordinal, new.entity, np.uint64(7), np.uint64(tries))
    jitter = 1.0 + k.g[JITTER_PPM] * 1e-6 * (2.0 * unit(block[0]) - 1.0)
    new.phase = BACKOFF
    new.t_phase = k.g[NOW] + np.int64(k.g[CLIENT_BACKOFF] * (1 << min(tries, 16)) * jitter)
    new.t_cli = FOREVER
    arm(k, n)
    return n


@jit
def answer(k, s, outcome, reusable):
    """Tell whoever waits for slot s. True: the slot was taken for another try, leave it alone."""
    apart()
    slot = k.slots[s]
    if slot.flags & ORPHAN:
        return False
    if slot.flags & CHECK:
        slot.flags |= ORPHAN
        return False
    if slot.parent >= 0:
        parent = slot.parent
        slot.flags |= ORPHAN
        slot.parent = -1
        k.slots[parent].child = -1
        k.slots[parent].outcome = outcome
        ready(k, parent, RETURN)
        return False
    if slot.flags & PROBE:
        slot.flags |= ORPHAN
        record_probe(k, s, outcome)
        return False
    u = slot.user
    if outcome in (EOF, TIMEOUT, OPEN) or not k.g[KEEP_ALIVE]:
        drop_connection(k, u)
    taken = try_again(k, s, outcome, reusable)
    if taken >= 0:
        return taken == s
    record(k, s, outcome)
    slot.flags |= ORPHAN
    slot.user = -1
    k.users[u].t_last = k.g[NOW]
    if outcome == OPEN:
        k.g[INTERRUPTED] += 1
    user_next(k, u)
    return False


@jit
def check_result(k, s, code):
    """The health check of slot s is over."""
    slot = k.slots[s]
    if not slot.flags & ORPHAN:
        notice(k, N_CHECK, slot.check, code)
        slot.flags |= ORPHAN


@jit
def detach(k, s):
    """Nobody waits for slot s any more: free it, or let the server finish its work."""
    apart()
    slot = k.slots[s]
    slot.t_hap = slot.t_cli = FOREVER
    slot.flags |= ZOMBIE | ORPHAN
    if slot.flags & ATWORK:
        arm(k, s)
    else:
        free(k, s)
