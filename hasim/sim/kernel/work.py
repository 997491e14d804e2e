"""What a service does with a request: workers, CPU, I/O and commit steps, nested calls.

A sync service holds a worker for the whole request, an async one only during its CPU steps. A
shadow probe waits like a request but takes no worker, CPU, memory or pooled connection.
"""

from __future__ import annotations

import numpy as np

from hasim.sim.kernel import layout as L
from hasim.sim.kernel.answer import notice
from hasim.sim.kernel.calendar import arm, free, push, ready, remove, unlink
from hasim.sim.kernel.conns import close_opened
from hasim.sim.kernel.cpu import start_cpu
from hasim.sim.kernel.draw import sample, step_word
from hasim.sim.kernel.layout import jit
from hasim.sim.kernel.pools import call, give_pool
from hasim.sim.trace import APP_5XX, OK

# Retransmits of TCP: 200 ms (TCP_RTO_MIN) and a round trip, doubled each time, each up to an eighth
# late (timer wheel). Source: measured, idle connections came back 27 to 28 s later (127 RTO).
RTO = 216 * L.NS // 1000


@jit
def memory_of(k, st):
    """Resident bytes of the container now."""
    x = k.stations[st]
    return x.base_bytes + x.inflight * (x.req_bytes + x.conn_bytes) + x.idle * x.conn_bytes


@jit
def arrive(k, s):
    """The request of slot s is in the service's socket."""
    slot = k.slots[s]
    station = k.stations[slot.st]
    slot.flags |= L.PRESENT | L.ATWORK
    slot.pc = k.ops[slot.op].pc
    slot.t_phase = L.FOREVER
    if k.ops[slot.op].write and not station.writable and not station.frozen:
        slot.flags &= ~L.ATWORK
        slot.outcome = APP_5XX  # read-only: an error at once, the connection stays good
        leave(k, s)
        return
    if not slot.flags & L.PROBE:
        station.inflight += 1
        # a stopped process takes no memory for what waits in its socket
        over = not station.frozen and 0 < station.limit_bytes < memory_of(k, slot.st)
        if over and not station.oom_sent:
            station.oom_sent = 1
            notice(k, L.N_OOM, slot.st, 0)
    if station.is_async and station.frozen:
        hold(k, s, L.RUN)
    elif station.is_async or seize(k, s):
        run(k, s)


@jit
def seize(k, s):
    """Take a worker, or join the queue (False)."""
    slot = k.slots[s]
    station = k.stations[slot.st]
    if station.frozen or station.busy >= station.workers or k.queues[station.queue].len > 0:
        slot.phase = L.WAITQ
        push(k, station.queue, s)
        arm(k, s)
        return False
    if not slot.flags & L.PROBE:
        station.busy += 1
        slot.flags |= L.WORKER
    return True


@jit
def pump(k, st):
    """Hand free workers to the queue of the service."""
    station = k.stations[st]
    queue = k.queues[station.queue]
    while not station.frozen and queue.len > 0 and station.busy < station.workers:
        s = queue.head
        remove(k, s)
        unlink(k, k.g[L.NODE_SLOT] + s)
        if not k.slots[s].flags & L.PROBE:
            station.busy += 1
            k.slots[s].flags |= L.WORKER
        ready(k, s, L.GRANT)


@jit
def release_worker(k, s):
    """Slot s gives its worker back."""
    slot = k.slots[s]
    if slot.flags & L.WORKER:
        slot.flags &= ~L.WORKER
        k.stations[slot.st].busy -= 1
    if k.queues[k.stations[slot.st].queue].len > 0:
        pump(k, slot.st)


@jit
def hold(k, s, phase):
    """The process is frozen: slot s goes on with `phase` at the thaw; its deadlines still run."""
    slot = k.slots[s]
    slot.phase = phase
    slot.flags |= L.HELD
    slot.t_phase = L.FOREVER
    arm(k, s)


@jit
def after_cpu(k, s):
    """A step of slot s is over: an async service lets go of the worker."""
    slot = k.slots[s]
    if k.stations[slot.st].is_async and slot.flags & L.WORKER:
        release_worker(k, s)


@jit
def run(k, s):
    """Go on with the step program of slot s until it has to wait."""
    slot = k.slots[s]
    station = k.stations[slot.st]
    while k.rows[slot.pc].code == L.OP_COMMIT:
        if commit(k, s):
            return
    row = k.rows[slot.pc]
    if row.code == L.OP_CPU:
        if station.is_async and not slot.flags & L.WORKER and not seize(k, s):
            return
        cpu_step(k, s)
    elif row.code == L.OP_IO:
        slot.phase = L.IO
        slot.t_phase = k.g[L.NOW] + draw_step(k, s, row.dist)
        slot.pc += 1
        arm(k, s)
    elif row.code == L.OP_END:
        slot.outcome = k.ops[slot.op].status
        leave(k, s)
    else:
        call(k, s)


@jit
def commit(k, s):
    """The commit at hand: it waits as long as the node's standbys make it. True: not over yet."""
    slot = k.slots[s]
    station = k.stations[slot.st]
    slot.pc += 1
    if not station.writable:
        slot.outcome = APP_5XX
        leave(k, s)
        return True
    if station.commit_extra == 0:
        return False
    slot.phase = L.COMMIT
    slot.t_phase = L.FOREVER
    if station.commit_extra > 0:
        slot.t_phase = k.g[L.NOW] + station.commit_extra
    arm(k, s)
    return True


@jit
def acknowledge(k, st):
    """A write of data node st is answered now."""
    station = k.stations[st]
    k.acks[station.ring + station.commits % L.RING] = k.g[L.NOW]
    station.commits += 1


@jit
def draw_step(k, s, dist):
    """The duration of a step; constants use no random word."""
    if k.dists[dist].kind == L.CONST:
        return np.int64(k.dists[dist].a + 0.5)
    return sample(k, dist, step_word(k, s))


@jit
def cpu_step(k, s):
    """Slot s has its worker (or is a probe): do the CPU step at hand."""
    slot = k.slots[s]
    work = draw_step(k, s, k.rows[slot.pc].dist)
    slot.pc += 1
    if not slot.flags & L.PROBE:
        start_cpu(k, s, work)
        return
    station = k.stations[slot.st]
    rate = 1.0 if station.dedicated or station.nrun == 0 else max(station.rate, 1e-3)
    slot.phase = L.CPU
    slot.t_phase = k.g[L.NOW] + np.int64(work / (station.speed * rate))
    arm(k, s)


@jit
def grant(k, s):
    """A queued slot got its worker."""
    if k.rows[k.slots[s].pc].code == L.OP_CPU:
        cpu_step(k, s)
    else:
        run(k, s)


@jit
def after_call(k, s):
    """The nested call of slot s ended with slot.outcome (or its pool wait did)."""
    slot = k.slots[s]
    row = k.rows[slot.pc]
    give_pool(k, s)
    slot.pc += 1
    if slot.outcome != OK and row.on_error > 0:
        slot.outcome = row.on_error
        leave(k, s)
        return
    slot.outcome = OK
    run(k, s)


@jit
def off_work(k, s):
    """Slot s is no longer the service's: worker, memory and place in the count are given back."""
    slot = k.slots[s]
    if not slot.flags & L.ATWORK:
        return
    station = k.stations[slot.st]
    slot.flags &= ~L.ATWORK
    if not slot.flags & L.PROBE:
        station.inflight -= 1
        if station.watch_drain and station.inflight == 0:
            station.watch_drain = 0
            notice(k, L.N_DRAINED, slot.st, 0)
    release_worker(k, s)
    give_pool(k, s)
    if slot.flags & L.ORPHAN:  # its client has closed already; else it closes when it has read
        close_opened(k, s)


@jit
def leave(k, s):
    """The service answers; over a silent edge the answer waits for a TCP retransmit.

    A write counts as acknowledged from here on, unless its caller has closed the connection.
    """
    slot = k.slots[s]
    off_work(k, s)
    if slot.flags & L.ZOMBIE:
        free(k, s)
        return
    if k.ops[slot.op].commits and slot.outcome == OK and not slot.flags & L.PROBE:
        acknowledge(k, slot.st)
    connect = k.edges[slot.edge].connect
    if connect >= 2:  # SILENT or NO_ROUTE
        slot.phase = L.RESP
        slot.trynum = 0
        slot.t_phase = k.g[L.NOW] + RTO
        arm(k, s)
        return
    ready(k, s, L.DONE)
