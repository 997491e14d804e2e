"""Record arrays of the data plane and the words for their small integers.

All times are int64 ns; FOREVER is "no deadline". -1 is "none" for every index.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hasim.sim.kernel.compiled import entry as entry
from hasim.sim.kernel.compiled import jit as jit

FOREVER = 1 << 62
NS = 1_000_000_000

# Phases of a slot. READY ones wait in the ready list for the current instant, TIMED ones in the
# calendar, QUEUED ones in a FIFO queue (and in the calendar while they have a deadline).
(
    FREE,
    ENTRY,  # timed: on the way to the entry point, or waiting for it in silence
    ADMIT,  # queued: kernel backlog of a full frontend
    ROUTE,  # ready: choose a server
    QUEUE,  # queued: HAProxy's backend or server queue
    DIAL,  # ready: a server is assigned, connect to it
    SYN,  # timed: connect unanswered, next SYN retransmit
    CONN,  # timed: connect and request under way
    ARP,  # timed: no route, fails when the neighbour probes give up
    FAIL,  # ready: the connect failed
    TURN,  # timed: turn-around delay before the same server is tried again
    SEND,  # timed: request sent into silence, next TCP retransmit
    WAITQ,  # queued: waits for a worker of its service
    CPU,  # timed (dedicated) or in the sharing heap of its container
    IO,  # timed
    CALL,  # waits for a child slot
    POOL,  # queued: waits for a pooled connection
    RUN,  # ready: go on with the step program
    RESP,  # timed: answer sent into silence, next TCP retransmit
    LOST,  # the peer died silently: only deadlines end this
    BACKOFF,  # timed: client's own retry
    CUT,  # ready: the connection to the server was cut
    DONE,  # ready: the answer has reached HAProxy (or the direct caller)
    ENTER,  # ready: the client sends (again)
    GRANT,  # ready: a worker is free for the CPU step at hand
    RETURN,  # ready: the nested call has ended
    ADMITTED_IN,  # ready: a place among the frontend's connections is free
    COMMIT,  # timed: a commit waits for a standby, or until it is told to go on
) = range(28)

# Flags of a slot.
PROBE = 1  # shadow probe: a place in queues, nothing else
CHECK = 2  # health check
ORPHAN = 4  # nobody waits for the result
ZOMBIE = 8  # HAProxy closed the stream; only the server's work is left
WRITE = 16
REPLAYED = 32
REUSED = 64  # over an idle server connection
NONFIRST = 128  # not the first request of its client connection
SLOTTED = 256  # counted in edge.served
WORKER = 512  # holds a worker
HELD = 2048  # an event came due while its process was frozen
ATWORK = 4096  # counted in station.inflight
PRESENT = 8192  # has reached the server (a later cut loses it)
POOLED = 16384  # holds a pooled connection
HAPDUE = 32768  # a HAProxy deadline passed while HAProxy was frozen
RIDES = 1 << 16  # over an open connection of a pool
PING = 1 << 17  # which it looks at first (pre-ping)
FRONT = 1 << 18  # holds a place among a frontend's connections by itself
OPENED = 1 << 19  # counted in station.open by itself

SLOT = np.dtype(
    [
        ("phase", "i4"), ("flags", "i4"), ("user", "i4"), ("parent", "i4"), ("child", "i4"),
        ("op", "i4"), ("pc", "i4"), ("nrand", "i4"), ("be", "i4"), ("edge", "i4"), ("st", "i4"),
        ("retries", "i4"), ("term", "i4"), ("trynum", "i4"), ("seg", "i4"), ("queue", "i4"),
        ("qnext", "i4"), ("qprev", "i4"), ("hchild", "i4"), ("hsib", "i4"), ("hprev", "i4"),
        ("outcome", "i4"), ("check", "i4"), ("tries", "i4"), ("epoch", "i4"), ("pool", "i4"),
        ("redis", "i4"), ("conn", "i4"), ("via", "i4"), ("lent", "i4"), ("entry", "i4"),
        ("shadow", "i4"),
        ("t_begin", "i8"), ("t_phase", "i8"), ("t_hap", "i8"), ("t_cli", "i8"), ("t_try", "i8"),
        ("answer_within", "i8"), ("answer_by", "i8"), ("work", "i8"), ("t_call", "i8"),
        ("tag", "f8"),
        ("ordinal", "u8"), ("entity", "u8"), ("path", "u8"), ("w2", "u8"), ("w3", "u8"),
    ],
    align=True,
)  # fmt: skip

NODE = np.dtype(
    [("t", "i8"), ("seq", "i8"), ("prev", "i4"), ("next", "i4"), ("bucket", "i4")], align=True
)

QUEUE_T = np.dtype([("head", "i4"), ("tail", "i4"), ("len", "i4")], align=True)

STATION = np.dtype(
    [
        ("host", "i4"), ("workers", "i4"), ("busy", "i4"), ("queue", "i4"), ("is_async", "i4"),
        ("backlog", "i4"), ("inflight", "i4"), ("idle", "i4"), ("frozen", "i4"),
        ("dedicated", "i4"), ("nrun", "i4"), ("heap", "i4"), ("throttled", "i4"),
        ("watch_drain", "i4"), ("oom_sent", "i4"), ("local", "i4"), ("writable", "i4"),
        ("ring", "i4"), ("open", "i4"), ("most_open", "i4"),
        ("commits", "i8"), ("commit_extra", "i8"),
        ("t_upd", "i8"), ("period", "i8"), ("alloc", "f8"), ("rate", "f8"), ("virtual", "f8"),
        ("quota", "f8"), ("period_used", "f8"), ("weight", "f8"), ("speed", "f8"),
        ("cpu_ns", "f8"), ("throttled_ns", "f8"),
        ("base_bytes", "i8"), ("conn_bytes", "i8"), ("req_bytes", "i8"), ("limit_bytes", "i8"),
    ],
    align=True,
)  # fmt: skip

HOST = np.dtype(
    [("cores", "f8"), ("first", "i4"), ("count", "i4"), ("short", "i4"), ("nrun", "i4")],
    align=True,
)

EDGE = np.dtype(
    [
        ("be", "i4"), ("st", "i4"), ("bal", "i4"), ("connect", "i4"), ("usable", "i4"),
        ("running", "i4"), ("backup", "i4"), ("weight", "i4"), ("maxconn", "i4"),
        ("maxqueue", "i4"), ("served", "i4"), ("idle", "i4"), ("queue", "i4"), ("epoch", "i4"),
        ("errors", "i4"), ("error_limit", "i4"), ("observe", "i4"), ("max_used", "i4"),
        ("need", "i4"), ("stale", "i4"), ("pooled", "i4"),
        ("rtt", "i8"), ("stamp", "i8"), ("t_purge", "i8"), ("npos", "f8"),
    ],
    align=True,
)  # fmt: skip

# Backend kinds: DIRECT has no HAProxy in front (a client library or a call by address).
DIRECT, HAPROXY = 0, 1
ROUNDROBIN, LEASTCONN, FIRST, RANDOM, SOURCE = range(5)
REUSE_NEVER, REUSE_SAFE, REUSE_ALWAYS = range(3)

BACKEND = np.dtype(
    [
        ("kind", "i4"), ("bal", "i4"), ("first", "i4"), ("count", "i4"), ("algo", "i4"),
        ("retries", "i4"), ("redispatch", "i4"), ("interval", "i4"), ("retry_on", "i4"),
        ("reuse", "i4"), ("allbackups", "i4"), ("abortonclose", "i4"), ("queue", "i4"),
        ("close_rule", "i4"), ("actives", "i4"), ("weight", "i4"), ("no_post_replay", "i4"),
        ("persist", "i4"), ("tcp", "i4"), ("fresh", "i4"), ("multi", "i4"), ("strict", "i4"),
        ("t_connect", "i8"), ("t_server", "i8"), ("t_queue", "i8"), ("pos", "f8"),
        ("backup_pos", "f8"),
    ],
    align=True,
)  # fmt: skip

BALANCER = np.dtype(
    [("maxconn", "i4"), ("conns", "i4"), ("queue", "i4"), ("frozen", "i4"), ("epoch", "i4")],
    align=True,
)

# Opcodes of a step program.
OP_CPU, OP_IO, OP_CALL, OP_END, OP_COMMIT = range(5)
ROW = np.dtype(
    [
        ("code", "i4"), ("dist", "i4"), ("be", "i4"), ("op", "i4"), ("on_error", "i4"),
        ("pool", "i4"), ("per", "i4"), ("entry", "i4"), ("timeout", "i8"),
        ("connect", "i8"),
    ],
    align=True,
)  # fmt: skip

OPERATION = np.dtype(
    [
        ("pc", "i4"), ("be", "i4"), ("entry", "i4"), ("write", "i4"), ("service", "i4"),
        ("status", "i4"), ("http", "i4"), ("fails", "i4"), ("commits", "i4"), ("keep_alive", "i8"),
    ],
    align=True,
)  # fmt: skip

CONST, EXP, UNIFORM, LOGNORMAL, QUANTILES, HYPEREXP = range(6)
DIST = np.dtype(
    [("kind", "i4"), ("first", "i4"), ("count", "i4"), ("a", "f8"), ("b", "f8")], align=True
)

OFF, THINKING, BUSY = range(3)
USER = np.dtype(
    [
        ("state", "i4"), ("slot", "i4"), ("conn", "i4"), ("epoch", "i4"), ("flow", "i4"),
        ("span", "i4"), ("last_span", "i4"), ("next_free", "i4"), ("ordinal", "i8"),
        ("think", "i8"), ("t_last", "i8"), ("stop", "i8"),
    ],
    align=True,
)  # fmt: skip
SPAN = np.dtype([("start", "i8"), ("stop", "i8"), ("kill", "i8")], align=True)

FLOW = np.dtype([("first", "i4"), ("count", "i4"), ("think", "i4")], align=True)
MIX = np.dtype([("upto", "f8"), ("op", "i4")], align=True)

# Arrival generators: rate pieces of the executor, or a shadow probe of one path.
RATE = np.dtype([("t0", "i8"), ("t1", "i8"), ("r0", "f8"), ("slope", "f8"), ("sum0", "f8")])
GENERATOR = np.dtype(
    [
        ("kind", "i4"), ("op", "i4"), ("first", "i4"), ("count", "i4"), ("at", "i4"),
        ("poisson", "i4"), ("bad", "i4"), ("number", "i8"), ("every", "i8"), ("until", "i8"),
        ("timeout", "i8"), ("sum", "f8"),
    ],
    align=True,
)  # fmt: skip
GEN_ARRIVALS, GEN_PROBE = 0, 1

# size idle connections are kept, limit may be open; http: it leads to a frontend that balances
# each request. all: an error invalidates every connection older than `gen`. t_idle: HAProxy's.
POOL_T = np.dtype(
    [
        ("st", "i4"), ("size", "i4"), ("limit", "i4"), ("busy", "i4"), ("idle", "i4"),
        ("first", "i4"), ("head", "i4"), ("tail", "i4"), ("free", "i4"), ("gen", "i4"),
        ("queue", "i4"), ("ping", "i4"), ("all", "i4"), ("http", "i4"), ("held", "i4"),
        ("wait", "i8"), ("command", "i8"), ("user_timeout", "i8"), ("connect", "i8"),
        ("t_idle", "i8"),
    ],
    align=True,
)  # fmt: skip
C_FREE, C_OPENING, C_OPEN, C_IDLE, C_BROKEN = range(5)
CONN_T = np.dtype(
    [
        ("pool", "i4"), ("state", "i4"), ("edge", "i4"), ("epoch", "i4"), ("gen", "i4"),
        ("next", "i4"), ("slot", "i4"), ("cut", "i4"), ("bal", "i4"), ("bal_epoch", "i4"),
        ("slotted", "i4"), ("counted", "i4"), ("t_last", "i8"),
    ],
    align=True,
)  # fmt: skip
# A health check that passes again and again, repeated without the control plane.
REPEAT = np.dtype(
    [
        ("edge", "i4"), ("op", "i4"), ("slot", "i4"), ("expect", "i4"), ("active", "i4"),
        ("held", "i4"), ("gap_ms", "i8"), ("low_us", "i8"), ("span_us", "i8"), ("spread", "f8"),
        ("patience", "i8"), ("tick", "i8"), ("due", "i8"), ("start", "i8"),
        ("drift_stream", "i8"), ("spread_stream", "i8"),
    ],
    align=True,
)  # fmt: skip
PROBE_ROW = np.dtype([("t", "i8"), ("latency", "i8"), ("path", "i4"), ("outcome", "i4")])
REQUEST_ROW = np.dtype(
    [
        ("t", "i8"), ("latency", "i8"), ("op", "i4"), ("edge", "i4"), ("outcome", "i4"),
        ("term", "i4"), ("retries", "i4"), ("redispatched", "i4"),
    ]
)  # fmt: skip

NOTICE = np.dtype([("t", "i8"), ("kind", "i4"), ("subject", "i4"), ("value", "i8")], align=True)
N_CHECK, N_DRAINED, N_OBSERVED, N_OOM, N_GROW, N_FLUSH, N_REPEAT = range(7)

# Termination letters of HAProxy's log (reference/haproxy.md 4.5), the columns of k.terms.
TERMS = (
    "200 ----", "503 SC--", "503 sC--", "503 SC-- NOSRV", "503 sQ--", "503 SQ--", "502 SH--",
    "504 sH--", "eof SH--", "eof sC--", "502 DH--", "eof D---", "503 DC--", "4xx ----",
    "5xx ----", "-1 C---", "open",
    # a session of mode tcp has no status; TCP + a column above is its line
    "tcp ----", "tcp SC--", "tcp sC--", "tcp SC-- NOSRV", "tcp sQ--", "tcp SQ--", "tcp SD--",
    "tcp sD--", "tcp SD-- later", "tcp sC-- later", "tcp DD--", "tcp D---", "tcp DC--",
    "tcp ---- 4xx", "tcp ---- 5xx", "tcp CD--", "tcp cD--",
)  # fmt: skip
(
    T_OK, T_SC, T_SCT, T_NOSRV, T_SQT, T_SQ, T_SH, T_SHT, T_EOF, T_EOFC, T_DH, T_D, T_DC, T_4XX,
    T_5XX, T_CLIENT, T_OPEN,
) = range(17)  # fmt: skip
TCP = 17
T_IDLE = 33  # idle for `timeout client` or `timeout server`

# Connect outcomes of an edge (hasim.sim.world) and results of a health check below 100.
CONNECTS, REFUSED, SILENT, NO_ROUTE = range(4)
L4CON, L4TOUT, L7TOUT, L7RSP = -1, -2, -3, -4

# Retry-on bits.
ON_EMPTY, ON_TIMEOUT, ON_JUNK, ON_5XX, ON_CONN = 1, 2, 4, 8, 16

# Globals (k.g), int64.
(
    NOW, SEQ, NOTES, READY_HEAD, READY_TAIL, FREE_HEAD, NODE_USER, NODE_GEN, NODE_SLOT, DAY, SHIFT,
    MASK, POPS, SKIPS, WALKS, SAME_T, SAME_N, BUG, SEGMENT, NSEGMENT, NOPS, WARM, SECONDS,
    ACTIVE, AREA_T, AREA, LATENCY_SUM, STARTED, FINISHED, KEEP_ALIVE, REPLAY, CLIENT_TIMEOUT,
    CLIENT_CONNECT, CLIENT_RETRIES, CLIENT_BACKOFF, FREE_USER, MAX_USERS, NUSERS, DROPPED,
    RETRIES, REDISPATCHES, REPLAYS, ITERATIONS, NPROBES, REQUESTS_ON, NREQUESTS, CHECKS, NFLOW,
    VUS, NEVENTS, LINEAR_SYN, FAULTED, USED_SLOTS, CLIENT_RETRIED, KEY0, KEY1,
    OPEN_LOOP, INTERRUPTED, JITTER_PPM, NODE_REPEAT, NODE_POOL,
    SLOTS, PROBE_SLOTS, FREE_PROBE, USED_PROBES,
) = range(65)  # fmt: skip
N_GLOBALS = 72
RING = 1 << 16  # commits of a data node whose times are kept

# The arrays of the data plane: name -> (dtype, dimensions).
FIELDS: dict[str, tuple[Any, int]] = {
    "g": ("i8", 1),  # globals, N_GLOBALS
    "slots": (SLOT, 1),
    "nodes": (NODE, 1),  # calendar entries: containers, users, generators, slots
    "heads": ("i4", 1),  # buckets of the calendar
    "tails": ("i4", 1),
    "ready": ("i4", 1),
    "queues": (QUEUE_T, 1),
    "stations": (STATION, 1),
    "hosts": (HOST, 1),
    "edges": (EDGE, 1),
    "backends": (BACKEND, 1),
    "balancers": (BALANCER, 1),
    "rows": (ROW, 1),
    "ops": (OPERATION, 1),
    "dists": (DIST, 1),
    "table": ("f8", 2),  # (p, value) rows of distributions
    "users": (USER, 1),
    "spans": (SPAN, 1),
    "flow": (FLOW, 1),
    "mix": (MIX, 1),
    "gens": (GENERATOR, 1),
    "rates": (RATE, 1),
    "pools": (POOL_T, 1),
    "conns": (CONN_T, 1),
    "pool_hist": ("i8", 1),  # (segments, pools, BUCKETS) flat: waits for a connection
    "refused": ("i8", 1),  # (seconds, stations) flat: "too many clients"
    "repeats": (REPEAT, 1),  # one per edge
    "notices": (NOTICE, 1),
    "hist": ("i8", 1),  # (segments, ops, outcomes, BUCKETS) flat
    "sums": ("f8", 1),  # (segments, ops, outcomes) flat
    "started": ("i8", 1),  # (seconds, ops) flat
    "ok": ("i8", 1),
    "failed": ("i8", 1),
    "scratch": ("i8", 1),  # BUCKETS
    "segments": ("i8", 1),  # start times
    "probes": (PROBE_ROW, 1),
    "requests": (REQUEST_ROW, 1),
    "terms": ("i8", 1),  # (edges + 1, TERMS) flat
    "acks": ("i8", 1),  # when the latest RING commits of each data node were answered
}
