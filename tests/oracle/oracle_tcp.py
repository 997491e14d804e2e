"""TCP's own times, as the oracle uses them."""

from __future__ import annotations

from oracle_clock import SECOND

FIRST_RTO = SECOND * 216 // 1000  # measured: 200 ms and a little late
NEIGHBOUR_FAILS = 3 * SECOND  # reference/haproxy.md 1.4: about 3 s of ARP probing
SYN_LATE = 22_000_000  # measured: the timer wheel makes each one a little late
HAPROXY, SERVICE, CLIENT = "haproxy", "service", "client"
CONNECTING = ("syn", "connect", "neighbour")


def syn_at(number: int) -> int:
    """When SYN retransmit `number` (from 0) goes out after the first SYN (Linux 6.5 and later)."""
    times = [1, 2, 3, 4, 5]  # four linear timeouts, then the first of the doubling ones
    while len(times) <= number:
        times.append(times[-1] + 2 ** (len(times) - 4))
    return times[number] * SECOND + (number + 1) * SYN_LATE
