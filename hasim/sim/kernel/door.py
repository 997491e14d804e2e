"""The one door between Python and the compiled data plane.

Everything behind it is compiled as one piece: a second entry point would compile and store most
of the request path a second time. `door.crash(k, st)` and so on take the arguments of the functions
of the same names in commands.py and loop.py, as ints.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hasim.sim.kernel import commands, proxies, virtual
from hasim.sim.kernel.draw import unit, words
from hasim.sim.kernel.layout import entry, jit
from hasim.sim.kernel.loop import advance as loop_advance

UNIFORM = 63  # the number of the one command that returns something


@jit
def perform_more(k, what, a, b, c, d, e):
    """The commands from 20 on."""
    if what == 20:
        commands.close_books(k)
    elif what == 21:
        commands.start_arrivals(k, a)
    elif what == 22:
        commands.start_repeat(k, a, b)
    elif what == 23:
        commands.stop_repeat(k, a)
    elif what == 24:
        commands.adopt_check(k, a, b, c, d, e)
    elif what == 25:
        commands.cut(k, a)
    elif what == 26:
        commands.set_commit(k, a, b)
    elif what == 27:
        virtual.lose_clients(k, a)


@entry
def perform(k, what, a, b, c, d, e, f):
    """Command number `what`; only UNIFORM returns something, the upper 53 bits of a word."""
    if what == 0:
        loop_advance(k, a)
    elif what == 1:
        commands.crash(k, a)
    elif what == 2:
        commands.freeze(k, a)
    elif what == 3:
        commands.thaw(k, a)
    elif what == 4:
        commands.close_idle(k, a)
    elif what == 5:
        commands.set_speed(k, a, b)
    elif what == 6:
        commands.set_connect(k, a, b)
    elif what == 7:
        proxies.set_rotation(k, a, b, c)
    elif what == 8:
        proxies.set_weight(k, a, b)
    elif what == 9:
        proxies.count_all(k)
    elif what == 10:
        proxies.set_maxconn(k, a, b)
    elif what == 11:
        proxies.shutdown_sessions(k, a)
    elif what == 12:
        commands.submit_check(k, a, b, c, d, e, f)
    elif what == 13:
        proxies.freeze_balancer(k, a)
    elif what == 14:
        proxies.thaw_balancer(k, a)
    elif what == 15:
        proxies.crash_balancer(k, a, b)
    elif what == 16:
        commands.open_segment(k, a)
    elif what == 17:
        commands.start_node(k, a, b)
    elif what == 18:
        commands.start_users(k)
    elif what == 19:
        commands.charge_all(k)
    elif what == UNIFORM:
        block = words(k, np.uint64(a), np.uint64(b), np.uint64(0), np.uint64(1 << 40))
        return np.int64(unit(block[0]) * 2.0**53)
    else:
        perform_more(k, what, a, b, c, d, e)
    return np.int64(0)


def _command(number: int) -> Callable[..., None]:
    def call(k, *args: int) -> None:
        # a bool or a numpy integer would have the whole kernel compiled once more
        perform(k, number, *map(int, args), *(0,) * (6 - len(args)))

    return call


(
    advance, crash, freeze, thaw, close_idle, set_speed, set_connect, set_rotation, set_weight,
    count_all, set_maxconn, shutdown_sessions, submit_check, freeze_balancer, thaw_balancer,
    crash_balancer, open_segment, start_node, start_users, charge_all, close_books,
    start_arrivals, start_repeat, stop_repeat, adopt_check, cut, set_commit, lose_clients,
) = (_command(number) for number in range(28))  # fmt: skip


def uniform(k, tick: int, stream: int) -> float:
    """A control-plane draw in [0, 1)."""
    return perform(k, UNIFORM, tick, stream, 0, 0, 0, 0) * 2.0**-53
