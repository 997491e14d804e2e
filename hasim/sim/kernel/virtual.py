"""What a client of a virtual address loses when the address moves."""

from __future__ import annotations

from hasim.sim.kernel import layout as L
from hasim.sim.kernel.answer import answer
from hasim.sim.kernel.calendar import remove
from hasim.sim.kernel.conns import detach
from hasim.sim.kernel.layout import jit
from hasim.sim.kernel.place import release
from hasim.sim.kernel.proxies import of_balancer
from hasim.sim.trace import EOF


@jit
def lose_clients(k, e):
    """Those whose requests came in by edge e get no answer: the next segment meets a reset."""
    bal = k.edges[e].bal
    for s in range(k.n_slots):
        slot = k.slots[s]
        if slot.entry != e or slot.flags & L.ORPHAN or not of_balancer(k, s, bal):
            continue
        if not slot.flags & L.ATWORK:
            remove(k, s)
        release(k, s)
        if not answer(k, s, EOF, not slot.flags & L.ATWORK):
            detach(k, s)
