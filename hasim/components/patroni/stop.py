"""SIGTERM: stop the server, give the lock to a replica that has everything, leave.

Read beside patroni/ha.py (shutdown), patroni/__main__.py (_shutdown), 4.1.5.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from hasim.components.patroni.actions import stop_and_hand_over
from hasim.components.patroni.client import DcsError, Gone

if TYPE_CHECKING:
    from hasim.components.patroni.node import Node

# From the signal to the server's stop signal. Source: measured, postgres-patroni.csv,
# sigterm_patroni: the old primary refuses writes 0.08 to 0.46 s after the signal.
BEFORE_STOP_S = 0.27

# From the end of its work until the process is gone. Source: measured, postgres-patroni.csv: the
# lock is taken 0.2 s later after sigterm_patroni than after node_kill, since the old member's REST
# port hangs until then.
EXIT_S = 0.2


def shutdown(node: Node, cause: int) -> Generator[Any, Any, None]:
    """The REST API first, then the server, then the lock, then the process.

    The API's thread ends but its socket stays open: whoever connects waits until the process is
    gone (measured: HAProxy marks the member down 6 s after that, not 6 s after the signal).
    """
    node.stopping = True
    node.busy = ""
    node.log("received SIGTERM, shutting down", cause=cause)
    node.world.freeze(node.name)
    try:
        yield from node.sleep(BEFORE_STOP_S)
        if node.is_leader and node.is_primary:
            yield from stop_and_hand_over(node)
        else:
            yield from node.stop_server("fast")
        yield from node.dcs.touch_member(node.member_data())
        yield from node.sleep(EXIT_S)
    except DcsError:
        pass
    except Gone:
        return
    node.machine.exit(node.p, 0, node.log("patroni exits"))
    node.world.thaw(node.name)
