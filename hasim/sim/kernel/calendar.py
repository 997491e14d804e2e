"""When things happen: the calendar queue, FIFO queues and the ready list.

A node (container, user, generator or slot) has at most one entry. Order is (time, sequence
number). A bucket is a doubly linked list sorted by that order; widths are powers of two ns. Times
under way in the same instant go through the ready list, first in, first out.
"""

from __future__ import annotations

import numpy as np

from hasim.sim.kernel import layout as L
from hasim.sim.kernel.layout import jit


@jit
def insert(k, n):
    """Put node n, whose t and seq are set, into its bucket."""
    node = k.nodes[n]
    b = (node.t >> k.g[L.SHIFT]) & k.g[L.MASK]
    after = k.tails[b]
    while after >= 0:
        other = k.nodes[after]
        if other.t < node.t or (other.t == node.t and other.seq < node.seq):
            break
        after = other.prev
        k.g[L.WALKS] += 1
    node.bucket = b
    node.prev = after
    if after >= 0:
        node.next = k.nodes[after].next
        k.nodes[after].next = n
    else:
        node.next = k.heads[b]
        k.heads[b] = n
    if node.next >= 0:
        k.nodes[node.next].prev = n
    else:
        k.tails[b] = n


@jit
def unlink(k, n):
    """Take node n out of the calendar; nothing happens if it is not in."""
    node = k.nodes[n]
    b = node.bucket
    if b < 0:
        return
    if node.prev >= 0:
        k.nodes[node.prev].next = node.next
    else:
        k.heads[b] = node.next
    if node.next >= 0:
        k.nodes[node.next].prev = node.prev
    else:
        k.tails[b] = node.prev
    node.bucket = -1


@jit
def schedule(k, n, t):
    """(Re)schedule node n at time t; FOREVER only takes it out."""
    unlink(k, n)
    if t >= L.FOREVER:
        return
    node = k.nodes[n]
    node.t = max(t, k.g[L.NOW])
    k.g[L.SEQ] += 1
    node.seq = k.g[L.SEQ]
    insert(k, n)


@jit
def arm(k, s):
    """Schedule slot s at the first of its phase timer and its two deadlines."""
    slot = k.slots[s]
    schedule(k, k.g[L.NODE_SLOT] + s, min(slot.t_phase, min(slot.t_hap, slot.t_cli)))


@jit
def earliest(k):
    """The first node over all buckets, or -1: used to jump over an idle stretch."""
    best = -1
    for b in range(k.n_heads):
        n = k.heads[b]
        if n >= 0:
            if best < 0:
                best = n
            else:
                x, y = k.nodes[n], k.nodes[best]
                if x.t < y.t or (x.t == y.t and x.seq < y.seq):
                    best = n
    return best


@jit
def pop(k, limit):
    """Take out the next node before `limit` and set the clock; -1 if there is none."""
    shift, mask = k.g[L.SHIFT], k.g[L.MASK]
    day, skipped = k.g[L.DAY], 0
    last = limit >> shift
    while True:
        n = k.heads[day & mask]
        if n >= 0 and (k.nodes[n].t >> shift) == day:
            break
        if day >= last:
            k.g[L.DAY] = last
            return -1
        day += 1
        skipped += 1
        if skipped > mask:
            n = earliest(k)
            if n < 0 or k.nodes[n].t >= limit:
                k.g[L.DAY] = last
                return -1
            day = k.nodes[n].t >> shift
            break
    k.g[L.DAY] = day
    if k.nodes[n].t >= limit:
        return -1
    k.g[L.SKIPS] += skipped
    k.g[L.POPS] += 1
    k.g[L.NOW] = k.nodes[n].t
    unlink(k, n)
    return n


@jit
def rebuild(k, shift):
    """Change the bucket width to 2**shift ns."""
    k.g[L.SHIFT] = shift
    for b in range(k.n_heads):
        k.heads[b] = k.tails[b] = -1
    for n in range(k.n_nodes):
        if k.nodes[n].bucket >= 0:
            insert(k, n)
    k.g[L.DAY] = k.g[L.NOW] >> shift


@jit
def adapt(k):
    """Every 64 Ki events: widen buckets that are mostly empty, narrow those that are crowded."""
    shift = k.g[L.SHIFT]
    if k.g[L.SKIPS] > 3 * k.g[L.POPS] and shift < 40:
        rebuild(k, shift + 1)
    elif k.g[L.WALKS] > 2 * k.g[L.POPS] and k.g[L.SKIPS] < k.g[L.POPS] and shift > 8:
        rebuild(k, shift - 1)
    k.g[L.POPS] = k.g[L.SKIPS] = k.g[L.WALKS] = 0


@jit
def ready(k, s, phase):
    """Slot s goes on in this instant, after what is already ready."""
    k.slots[s].phase = phase
    k.ready[k.g[L.READY_TAIL] & (k.n_ready - 1)] = s  # its size is a power of two
    k.g[L.READY_TAIL] += 1


@jit
def push(k, q, s):
    """Append slot s to FIFO queue q."""
    queue, slot = k.queues[q], k.slots[s]
    slot.queue = q
    slot.qnext = -1
    slot.qprev = queue.tail
    if queue.tail >= 0:
        k.slots[queue.tail].qnext = s
    else:
        queue.head = s
    queue.tail = s
    queue.len += 1


@jit
def remove(k, s):
    """Take slot s out of the queue it is in, if any."""
    slot = k.slots[s]
    if slot.queue < 0:
        return
    queue = k.queues[slot.queue]
    if slot.qprev >= 0:
        k.slots[slot.qprev].qnext = slot.qnext
    else:
        queue.head = slot.qnext
    if slot.qnext >= 0:
        k.slots[slot.qnext].qprev = slot.qprev
    else:
        queue.tail = slot.qprev
    queue.len -= 1
    slot.queue = -1


@jit
def allocate(k, probe):
    """A free slot with empty fields. advance() stops early enough that there always is one.

    Probes have slots of their own: where a command meets many requests at one instant, it meets
    them by number, and that order must not depend on probes.
    """
    head = L.FREE_PROBE if probe else L.FREE_HEAD
    s = k.g[head]
    slot = k.slots[s]
    k.g[head] = slot.qnext
    k.g[L.USED_PROBES if probe else L.USED_SLOTS] += 1
    slot.flags = slot.retries = slot.term = slot.trynum = slot.nrand = slot.redis = 0
    slot.tries = 0
    slot.user = slot.parent = slot.child = slot.edge = slot.st = slot.be = -1
    slot.conn = slot.via = slot.lent = slot.entry = -1
    slot.queue = slot.check = slot.pool = slot.hchild = slot.hsib = slot.hprev = -1
    slot.outcome = 0
    slot.t_phase = slot.t_hap = slot.t_cli = L.FOREVER
    slot.answer_within = 0
    slot.path = np.uint64(0)
    return s


@jit
def free(k, s):
    """Give slot s back."""
    unlink(k, k.g[L.NODE_SLOT] + s)
    remove(k, s)
    slot = k.slots[s]
    slot.phase = L.FREE
    head = L.FREE_PROBE if slot.shadow else L.FREE_HEAD
    slot.qnext = k.g[head]
    k.g[head] = s
    k.g[L.USED_PROBES if slot.shadow else L.USED_SLOTS] -= 1


@jit
def next_ready(k):
    """The next ready slot, or -1; freed ones are passed over by their phase."""
    if k.g[L.READY_HEAD] == k.g[L.READY_TAIL]:
        k.g[L.READY_HEAD] = k.g[L.READY_TAIL] = 0
        return -1
    s = k.ready[k.g[L.READY_HEAD] & (k.n_ready - 1)]
    k.g[L.READY_HEAD] += 1
    return s
