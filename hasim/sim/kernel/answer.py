"""What a caller does with its answer: statistics, the user's next move, the parent's next step."""

from __future__ import annotations

import numpy as np

from hasim.sim.kernel import layout as L
from hasim.sim.kernel.calendar import allocate, arm, ready, remove, schedule, unlink
from hasim.sim.kernel.draw import bit_length, uniform_at, unit, words
from hasim.sim.kernel.layout import jit
from hasim.sim.trace import BUCKETS, EOF, LOW, NO_ENTRY, OK, OPEN, OUTCOMES, SUB, TIMEOUT

N_OUTCOMES = len(OUTCOMES)
N_TERMS = len(L.TERMS)
CYCLE = 100_000  # source: assumption, 0.1 ms of a load generator's own time per iteration
JITTER = np.uint64(1 << 63)  # the path of a client's own retries; those of calls are far below
# Segments that probes leave for faults and repairs: where each good probe follows a bad one, they
# would use up all of them, and the windows of later faults could not be told apart.
SPARE = 24
REPEATED = -2  # slot.check of a repeated check: REPEATED - its edge


@jit
def notice(k, kind, subject, value):
    """Tell the control plane; advance() returns at this instant."""
    n = k.g[L.NOTES]
    if n < k.n_notices:
        row = k.notices[n]
        row.t, row.kind, row.subject, row.value = k.g[L.NOW], kind, subject, value
        k.g[L.NOTES] = n + 1


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
    return max(0, min(k.g[L.SECONDS] - 1, (t - k.g[L.WARM]) // L.NS))


@jit
def new_segment(k, spare):
    """Open a new segment, unless no more than `spare` are left: then the last one goes on."""
    n = k.g[L.NSEGMENT]
    if n + spare < k.n_segments:
        k.segments[n] = k.g[L.NOW]
        k.g[L.SEGMENT] = n
        k.g[L.NSEGMENT] = n + 1


@jit
def count_active(k, change):
    """Integral form of Little's law: area under the number of requests in the system."""
    k.g[L.AREA] += k.g[L.ACTIVE] * (k.g[L.NOW] - k.g[L.AREA_T])
    k.g[L.AREA_T] = k.g[L.NOW]
    k.g[L.ACTIVE] += change


@jit
def count_term(k, s, term):
    """One line of HAProxy's log."""
    slot = k.slots[s]
    k.terms[(slot.edge + 1) * N_TERMS + term] += 1
    slot.term = term + 100


@jit
def record(k, s, outcome):
    """Book the end of a user's request."""
    slot, now = k.slots[s], k.g[L.NOW]
    latency = now - slot.t_begin
    cell = (slot.seg * k.g[L.NOPS] + slot.op) * N_OUTCOMES + outcome
    bucket = 0 if outcome == OPEN else bucket_of(latency)
    k.hist[cell * BUCKETS + bucket] += 1
    k.sums[cell] += latency * 1e-9
    second = second_of(k, now) * k.g[L.NOPS] + slot.op
    if outcome == OK:
        k.ok[second] += 1
    else:
        k.failed[second] += 1
    k.scratch[bucket] += 1
    k.g[L.FINISHED] += 1
    k.g[L.LATENCY_SUM] += latency
    count_active(k, -1)
    if k.g[L.REQUESTS_ON]:
        row = k.requests[k.g[L.NREQUESTS]]
        row.t, row.latency, row.op, row.edge = slot.t_begin, latency, slot.op, slot.edge
        row.outcome, row.term, row.retries = outcome, slot.term, slot.retries
        row.redispatched = slot.redis
        k.g[L.NREQUESTS] += 1
        if k.g[L.NREQUESTS] >= k.n_requests - 1:
            notice(k, L.N_FLUSH, 0, 0)


@jit
def record_probe(k, s, outcome):
    """Book the end of a shadow probe; the first good one after a bad one begins a segment."""
    slot = k.slots[s]
    n = k.g[L.NPROBES]
    if n < k.n_probes:
        row = k.probes[n]
        row.t, row.latency = slot.t_begin, k.g[L.NOW] - slot.t_begin
        row.path, row.outcome = slot.check, outcome
        k.g[L.NPROBES] = n + 1
    gen = k.gens[slot.check]
    if outcome != OK:
        gen.bad = 1
    elif gen.bad:
        gen.bad = 0
        if k.g[L.FAULTED]:
            new_segment(k, SPARE)


@jit
def drop_connection(k, u):
    """The user's client connection is closed; a client in the backlog may take its place."""
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
    balancer = k.balancers[bal]
    balancer.conns -= 1
    waiting = k.queues[balancer.queue].head
    while waiting >= 0:
        following = k.slots[waiting].qnext
        take_place = not (k.slots[waiting].flags & L.PROBE)
        remove(k, waiting)
        unlink(k, k.g[L.NODE_SLOT] + waiting)
        k.slots[waiting].t_phase = L.FOREVER
        ready(k, waiting, L.ADMITTED_IN)
        if take_place:
            balancer.conns += 1
            return
        waiting = following


@jit
def user_next(k, u, took):
    """The user's request is over: think, or give the user back to the arrival executor.

    took: how long it was. A client that does not think and is refused at once still needs time
    to try again.
    """
    user = k.users[u]
    user.slot = -1
    user.flow += 1
    if user.flow >= k.g[L.NFLOW]:
        user.flow = 0
        k.g[L.ITERATIONS] += 1
        if k.g[L.OPEN_LOOP] and user.think <= 0:
            user.state = L.THINKING
            user.next_free = k.g[L.FREE_USER]
            k.g[L.FREE_USER] = u
            return
    user.state = L.THINKING
    schedule(k, k.g[L.NODE_USER] + u, k.g[L.NOW] + max(user.think, 0 if took > 0 else CYCLE))


@jit
def clone(k, s):
    """A second slot for the same call: the first goes on as work that nobody waits for."""
    n = allocate(k, k.slots[s].flags & L.PROBE)
    old, new = k.slots[s], k.slots[n]
    new.flags = old.flags & (L.PROBE | L.CHECK | L.WRITE | L.REPLAYED | L.NONFIRST)
    new.user, new.parent, new.op, new.be = old.user, old.parent, old.op, old.be
    new.retries, new.term, new.seg, new.check = old.retries, old.term, old.seg, old.check
    new.redis, new.t_begin, new.t_cli = old.redis, old.t_begin, old.t_cli
    new.tries = old.tries
    new.ordinal, new.entity, new.path = old.ordinal, old.entity, old.path
    new.w2, new.w3, new.pc = old.w2, old.w3, k.ops[old.op].pc
    if old.user >= 0:
        k.users[old.user].slot = n
    if old.parent >= 0:
        k.slots[old.parent].child = n
    new.entry, new.via, new.conn = old.entry, old.via, old.conn
    if old.conn >= 0:
        k.conns[old.conn].slot = n
        old.conn = -1
    old.flags |= L.ORPHAN  # a zombie only once HAProxy has let go of it: detach()
    old.user = old.parent = -1
    return n


@jit
def try_again(k, s, outcome, reusable):
    """A client's own second try: k6's silent replay, or retries with back-off. The slot, or -1."""
    slot = k.slots[s]
    replay = (
        outcome == EOF
        and k.g[L.REPLAY]
        and (slot.flags & L.NONFIRST)
        and not (slot.flags & (L.WRITE | L.REPLAYED))
    )
    again = outcome != OK and outcome != OPEN and slot.tries < k.g[L.CLIENT_RETRIES]
    if not replay and not again:
        return -1
    tries = slot.tries
    n = s if reusable else clone(k, s)
    new = k.slots[n]
    new.flags &= L.WRITE | L.REPLAYED
    new.retries = new.term = new.nrand = new.redis = new.trynum = 0
    new.edge = new.st = new.be = new.entry = -1
    new.outcome = OK
    new.t_phase = new.t_hap = L.FOREVER
    new.t_cli = k.g[L.NOW] + k.g[L.CLIENT_TIMEOUT]
    unlink(k, k.g[L.NODE_SLOT] + n)
    if replay:
        new.flags |= L.REPLAYED
        k.g[L.REPLAYS] += 1
        ready(k, n, L.ENTER)
        return n
    new.tries = tries + 1
    k.g[L.CLIENT_RETRIED] += 1
    block = words(k, new.ordinal, new.entity, JITTER, np.uint64(tries))
    jitter = 1.0 + k.g[L.JITTER_PPM] * 1e-6 * (2.0 * unit(block[0]) - 1.0)
    new.phase = L.BACKOFF
    new.t_phase = k.g[L.NOW] + np.int64(k.g[L.CLIENT_BACKOFF] * (1 << min(tries, 16)) * jitter)
    new.t_cli = L.FOREVER
    arm(k, n)
    return n


@jit
def answer(k, s, outcome, reusable):
    """Tell whoever waits for slot s. True: the slot was taken for another try, leave it alone."""
    slot = k.slots[s]
    if slot.flags & L.ORPHAN:
        return False
    if slot.flags & L.CHECK:
        slot.flags |= L.ORPHAN
        return False
    if slot.parent >= 0:
        parent = slot.parent
        slot.flags |= L.ORPHAN
        slot.parent = -1
        k.slots[parent].child = -1
        k.slots[parent].outcome = outcome
        ready(k, parent, L.RETURN)
        return False
    if slot.flags & L.PROBE:
        slot.flags |= L.ORPHAN
        record_probe(k, s, outcome)
        return False
    u = slot.user
    if outcome in (EOF, TIMEOUT, OPEN, NO_ENTRY) or not k.g[L.KEEP_ALIVE]:
        drop_connection(k, u)
    taken = try_again(k, s, outcome, reusable)
    if taken >= 0:
        return taken == s
    record(k, s, outcome)
    slot.flags |= L.ORPHAN
    slot.user = -1
    k.users[u].t_last = k.g[L.NOW]
    if outcome == OPEN:
        k.g[L.INTERRUPTED] += 1
    user_next(k, u, k.g[L.NOW] - slot.t_begin)
    return False


@jit
def check_result(k, s, code):
    """The health check of slot s is over."""
    slot = k.slots[s]
    if slot.flags & L.ORPHAN:
        return
    slot.flags |= L.ORPHAN
    if slot.check >= 0:
        notice(k, L.N_CHECK, slot.check, code)
        return
    repeated(k, REPEATED - slot.check, code)


@jit
def repeated(k, r, code):
    """A check that the data plane repeats has its result: again, or tell the control plane."""
    row = k.repeats[r]
    row.slot = -1
    if code != row.expect if row.expect else code < 200 or code >= 400:
        row.active = 0
        notice(k, L.N_REPEAT, r, code)
        return
    row.tick += 1
    gap = row.gap_ms
    if row.spread > 0.0:
        gap = np.int64(
            gap * (1 + row.spread * (2 * uniform_at(k, row.tick, row.spread_stream) - 1))
        )
    drift_us = row.low_us + np.int64(row.span_us * uniform_at(k, row.tick, row.drift_stream))
    row.due = k.g[L.NOW] + gap * 1_000_000 + drift_us * 1000
    row.start = 0
    schedule(k, k.g[L.NODE_REPEAT] + r, row.due)
