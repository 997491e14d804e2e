"""CPU of a container.

Dedicated: neither quota nor host can ever bind (decided at load), so CPU work is a plain timer.
Shared: the runnable threads of a container share its rate equally (processor sharing by virtual
time, a pairing heap of finish tags, one calendar entry per container). `cpus` is a CFS quota per
100 ms period for all threads together, charged when something changes, then the container is
throttled to the end of the period (Linux kernel documentation, scheduler/sched-bwc). A host with
more runnable threads than cores divides by weight (cpu_shares), work-conserving.
"""

from __future__ import annotations

import math

from hasim.sim.kernel import layout as L
from hasim.sim.kernel.calendar import arm, ready, schedule
from hasim.sim.kernel.layout import jit

PERIOD = 100_000_000  # source: Linux cpu.cfs_period_us default 100 ms; docker run --cpus


@jit
def merge(k, a, b):
    """Join two pairing heaps of slots; the smaller tag is the root."""
    if a < 0:
        return b
    if b < 0:
        return a
    if k.slots[b].tag < k.slots[a].tag:
        a, b = b, a
    x, y = k.slots[a], k.slots[b]
    y.hsib = x.hchild
    if x.hchild >= 0:
        k.slots[x.hchild].hprev = b
    y.hprev = a
    x.hchild = b
    return a


@jit
def merge_children(k, first):
    """Two-pass merge of a list of siblings into one heap."""
    pairs = -1
    while first >= 0:
        a = first
        b = k.slots[a].hsib
        first = k.slots[b].hsib if b >= 0 else -1
        k.slots[a].hsib = k.slots[a].hprev = -1
        if b >= 0:
            k.slots[b].hsib = k.slots[b].hprev = -1
        root = merge(k, a, b)
        k.slots[root].hsib = pairs
        pairs = root
    root = -1
    while pairs >= 0:
        following = k.slots[pairs].hsib
        k.slots[pairs].hsib = -1
        root = merge(k, root, pairs)
        pairs = following
    return root


@jit
def heap_remove(k, st, s):
    """Take slot s out of the heap of its container."""
    station, slot = k.stations[st], k.slots[s]
    below = merge_children(k, slot.hchild)
    if station.heap == s:
        station.heap = below
    else:
        if k.slots[slot.hprev].hchild == s:
            k.slots[slot.hprev].hchild = slot.hsib
        else:
            k.slots[slot.hprev].hsib = slot.hsib
        if slot.hsib >= 0:
            k.slots[slot.hsib].hprev = slot.hprev
        station.heap = merge(k, station.heap, below)
    slot.hchild = slot.hsib = slot.hprev = -1


@jit
def charge(k, st):
    """Bring virtual time, CPU time and the period's use of the container up to now."""
    station, now = k.stations[st], k.g[L.NOW]
    dt = now - station.t_upd
    if dt > 0:
        used = dt * station.rate * station.nrun
        station.virtual += dt * station.rate
        station.cpu_ns += used
        station.period_used += used
        if station.throttled:
            station.throttled_ns += dt
        station.t_upd = now
    period = now // PERIOD
    if period != station.period:
        # a stretch that crosses a boundary left enough budget, else a timer would have ended it
        station.period = period
        station.period_used = min(station.period_used, (now - period * PERIOD) * station.rate
                                  * station.nrun)  # fmt: skip
        station.throttled = 0


@jit
def limit(k, st):
    """Throttle the container to the end of the period once its quota is used up."""
    station = k.stations[st]
    if station.quota > 0.0 and station.period_used >= station.quota * PERIOD - 0.5:
        station.throttled = 1


@jit
def runnable(k, st):
    """Threads that could use a core now: those of a throttled or frozen container could not."""
    station = k.stations[st]
    return 0 if station.throttled or station.frozen else station.nrun


@jit
def settle_rate(k, st):
    """Set the rate per thread from the cores allotted, and the container's one calendar entry."""
    station, now = k.stations[st], k.g[L.NOW]
    n = station.nrun
    if n == 0 or station.frozen:
        station.rate = 0.0
        schedule(k, st, L.FOREVER)
        return
    limit(k, st)
    if station.throttled:
        station.rate = 0.0
        schedule(k, st, (station.period + 1) * PERIOD)
        return
    station.rate = min(1.0, station.alloc / n)
    left = (k.slots[station.heap].tag - station.virtual) / station.rate
    t = now + max(0, math.ceil(left))
    if station.quota > 0.0:
        budget = station.quota * PERIOD - station.period_used
        spent = now + max(1, math.ceil(budget / (station.rate * n)))
        end = (station.period + 1) * PERIOD
        # fewer threads than the quota allows may still use up what many have left of the period
        if spent < end or station.rate * n > station.quota:
            t = min(t, min(spent, end))
    schedule(k, st, t)


@jit
def share_host(k, h):
    """Divide the cores of a short host by weight among its containers (water filling)."""
    host = k.hosts[h]
    last = host.first + host.count
    total = 0
    for i in range(host.first, last):
        total += runnable(k, i)
    if total <= host.cores and not host.short:
        return
    total = 0
    for i in range(host.first, last):
        charge(k, i)
        limit(k, i)
        total += runnable(k, i)
    short = total > host.cores
    host.short = 1 if short else 0
    for i in range(host.first, last):
        k.stations[i].alloc = -1.0 if short else float(runnable(k, i))
    if short:
        fill(k, h)
    for i in range(host.first, last):
        if not k.stations[i].dedicated:
            settle_rate(k, i)


@jit
def fill(k, h):
    """Allot the cores of a short host: nobody gets more than it can use, the rest by weight."""
    host = k.hosts[h]
    last = host.first + host.count
    left, full = host.cores, 1
    while full:
        weights = 0.0
        for i in range(host.first, last):
            if k.stations[i].alloc < 0.0 and runnable(k, i) > 0:
                weights += k.stations[i].weight
        per, full = left / weights if weights > 0.0 else 0.0, 0
        for i in range(host.first, last):
            station, n = k.stations[i], runnable(k, i)
            if station.alloc < 0.0 and 0 < n <= per * station.weight:
                station.alloc = float(n)
                left -= n
                full = 1
    for i in range(host.first, last):
        if k.stations[i].alloc < 0.0:
            k.stations[i].alloc = per * k.stations[i].weight


@jit
def recompute(k, st):
    """The number of threads of the container that want a core has changed."""
    station = k.stations[st]
    if not k.hosts[station.host].short:
        station.alloc = float(station.nrun)
    settle_rate(k, st)
    share_host(k, station.host)


@jit
def count_thread(k, st, change):
    """A dedicated container has a thread more (1) or less (-1) on a core of its own.

    Its account is right once charge() has added what the threads have used since t_upd.
    """
    station = k.stations[st]
    station.cpu_ns -= change * (k.g[L.NOW] - station.t_upd) * station.rate
    station.nrun += change


@jit
def start_cpu(k, s, work):
    """Slot s begins `work` ns of CPU time on its container."""
    slot = k.slots[s]
    station = k.stations[slot.st]
    slot.phase = L.CPU
    need = work / station.speed
    if station.dedicated:
        station.rate = 1.0
        count_thread(k, slot.st, 1)
        slot.t_phase = k.g[L.NOW] + max(0, math.ceil(need - 1e-6))
        arm(k, s)
        return
    charge(k, slot.st)
    slot.t_phase = L.FOREVER
    slot.tag = station.virtual + need
    slot.hchild = slot.hsib = slot.hprev = -1
    station.heap = merge(k, station.heap, s)
    station.nrun += 1
    recompute(k, slot.st)
    arm(k, s)


@jit
def stop_cpu(k, s):
    """Slot s leaves the CPU before its work is done (its process died)."""
    slot = k.slots[s]
    station = k.stations[slot.st]
    if slot.flags & L.PROBE:
        return
    if station.dedicated:
        count_thread(k, slot.st, -1)
        return
    charge(k, slot.st)
    heap_remove(k, slot.st, s)
    station.nrun -= 1
    recompute(k, slot.st)


@jit
def cpu_event(k, st):
    """The calendar entry of a container: threads that are done leave, periods begin or end."""
    station = k.stations[st]
    charge(k, st)
    left = 0
    while station.heap >= 0 and k.slots[station.heap].tag <= station.virtual + 0.5:
        s = station.heap
        station.heap = merge_children(k, k.slots[s].hchild)
        k.slots[s].hchild = k.slots[s].hsib = k.slots[s].hprev = -1
        station.nrun -= 1
        left += 1
        ready(k, s, L.RUN)
    if station.nrun == 0:
        station.virtual = 0.0  # keep tags small: no thread refers to the old origin
    if left or station.quota > 0.0:  # a container that is throttled, or no more, moves others
        recompute(k, st)
    else:
        settle_rate(k, st)


@jit
def rescale(k, st, factor):
    """CPU work under way takes `factor` times what is left of it (speed changed)."""
    station = k.stations[st]
    if station.dedicated:
        for s in range(k.n_slots):
            slot = k.slots[s]
            if slot.phase == L.CPU and slot.st == st and slot.flags & L.HELD:
                slot.work = math.ceil(slot.work * factor)
            elif slot.phase == L.CPU and slot.st == st and slot.t_phase < L.FOREVER:
                slot.t_phase = k.g[L.NOW] + math.ceil((slot.t_phase - k.g[L.NOW]) * factor)
                arm(k, s)
        return
    charge(k, st)
    # every tag keeps its order, so the heap stays a heap
    for s in range(k.n_slots):
        slot = k.slots[s]
        if slot.phase == L.CPU and slot.st == st:
            slot.tag = station.virtual + (slot.tag - station.virtual) * factor
    recompute(k, st)
