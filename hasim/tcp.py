"""What Linux does when a packet gets no answer: retransmits of TCP, probes of neighbours.

The data plane has these rules once more, compiled (sim/kernel/path.py, sim/kernel/work.py).
"""

from __future__ import annotations

from hasim.units import NS

# SYN retransmits after the first SYN, each about 22 ms late. Source: Linux ip-sysctl,
# tcp_syn_linear_timeouts = 4 (6.5 and later) and tcp_syn_retries = 6; measured
# (tests/measured/README.md).
SYN_S = (1, 2, 3, 4, 5, 7, 11, 19, 35, 67)
_SYN_LATE_NS = 22_000_000
SYN_NS = tuple(s * NS + n * _SYN_LATE_NS for n, s in enumerate(SYN_S, 1))

# Retransmits of data: 216 ms, doubled each time, at most 120 s apart. Source: Linux TCP_RTO_MIN
# 200 ms and a round trip below 1 ms, measured 216 ms (sim/kernel/work.py); Linux TCP_RTO_MAX.
RTO_NS = 216_000_000
RTO_MAX_NS = 120 * NS

# "No route to host" comes after three neighbour probes a second apart. Source: arp(7).
NO_ROUTE_NS = 3 * NS

# How long a neighbour entry of a peer that was just heard of takes to fail. It stays reachable for
# a random time, waits before the first probe, then sends its probes. Source: arp(7), defaults
# base_reachable_time 30 s (times 0.5..1.5), delay_first_probe_time 5 s, ucast_solicit 3 and
# retrans_time 1 s; measured on a bridge: 50 to 54 s (shared facts on the `stop` fault), and 43.6,
# 46.1 and 48.8 s (reference on keepalived, healed partition).
REACHABLE_S = (15.0, 45.0)
FIRST_PROBE_S = 5.0
PROBES_S = 3.0


def retransmit_ns(sent_ns: int, t_ns: int) -> int:
    """The first retransmit at or after t_ns of what was first sent at sent_ns.

    >>> retransmit_ns(0, 300_000_000)
    648000000
    """
    at, gap = sent_ns, RTO_NS
    while at < t_ns:
        at, gap = at + gap, min(2 * gap, RTO_MAX_NS)
    return at


def neighbour_fails_s(u: float) -> float:
    """The time for which a neighbour entry goes on without answers; u: uniform in [0, 1)."""
    low, high = REACHABLE_S
    return low + (high - low) * u + FIRST_PROBE_S + PROBES_S
