"""Health checks: sent like requests, and repeated without the control plane while they pass."""

from __future__ import annotations

import numpy as np

from hasim.sim.kernel import layout as L
from hasim.sim.kernel.answer import REPEATED
from hasim.sim.kernel.calendar import allocate, ready
from hasim.sim.kernel.draw import words
from hasim.sim.kernel.layout import jit
from hasim.sim.kernel.place import assign

CHECK_ENTITY = 3 << 40


@jit
def new_check(k, e, op, check):
    """A slot for one health check over edge e, about to connect."""
    s = allocate(k, 0)
    slot = k.slots[s]
    slot.flags = L.CHECK
    slot.op, slot.check, slot.be = op, check, k.edges[e].be
    slot.t_begin = k.g[L.NOW]
    slot.seg = k.g[L.SEGMENT]
    slot.ordinal = np.uint64(k.g[L.CHECKS])
    slot.entity = np.uint64(CHECK_ENTITY + e)
    k.g[L.CHECKS] += 1
    block = words(k, slot.ordinal, slot.entity, np.uint64(0), np.uint64(0))
    slot.w2, slot.w3 = block[2], block[3]
    assign(k, s, e)
    ready(k, s, L.DIAL)
    return s


@jit
def repeat_event(k, e):
    """The next check of edge e is due."""
    row = k.repeats[e]
    if k.balancers[k.backends[k.edges[e].be].bal].frozen:
        row.held = 1
        return
    row.start = k.g[L.NOW]
    row.slot = new_check(k, e, row.op, REPEATED - e)
    slot = k.slots[row.slot]
    slot.t_hap = slot.answer_by = k.g[L.NOW] + row.patience
    slot.answer_within = 0
