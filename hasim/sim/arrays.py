"""Allocate the arrays of one replication from compiled tables, a scenario and a seed."""

from __future__ import annotations

import math

import numpy as np

from hasim.scenario import Scenario
from hasim.sim.kernel import layout as L
from hasim.sim.kernel.handle import Kernel
from hasim.sim.tables import Tables, ns
from hasim.sim.trace import BUCKETS, OUTCOMES
from hasim.sim.traffic import is_open_loop, rate_pieces, user_spans

SEGMENTS = 64
NOTICES = 4096
PROBE_SLOTS = 256  # at the start
SLOT_COUNTS = ((L.SLOTS, L.USED_SLOTS), (L.PROBE_SLOTS, L.USED_PROBES))


def build(t: Tables, scenario: Scenario, seed: int, replication: int, keep_requests: bool):
    """The Kernel of one replication; the load is put in later, by start_load()."""
    load = scenario.load
    seconds = max(1, math.ceil(load.duration_s))
    users = user_count(scenario)
    n_ops = t.user_ops
    requests = 1 << max(8, (2 * min(users, 1 << 16) + 64).bit_length())
    slots = requests + PROBE_SLOTS
    edges = t.array("edges", L.EDGE)
    stations = t.array("stations", L.STATION)
    pools = t.array("pools", L.POOL_T)
    pools[-1]["st"] = pools[-1]["head"] = -1
    gens = np.zeros(len(t.probe_ops) + 2, L.GENERATOR)
    buckets = 1 << max(10, min(17, (4 * users).bit_length()))
    g = np.zeros(L.N_GLOBALS, np.int64)
    k = Kernel(
        g=g,
        slots=np.zeros(slots, L.SLOT),
        nodes=np.zeros(len(stations) + users + len(gens) + len(edges) + len(pools) + slots, L.NODE),
        heads=np.full(buckets, -1, np.int32),
        tails=np.full(buckets, -1, np.int32),
        ready=np.zeros(1 << slots.bit_length(), np.int32),
        queues=np.zeros(t.queues + 1, L.QUEUE_T),
        stations=stations,
        hosts=t.array("hosts", L.HOST),
        edges=edges,
        backends=t.array("backends", L.BACKEND),
        balancers=t.array("balancers", L.BALANCER),
        rows=t.array("rows", L.ROW),
        ops=t.array("ops", L.OPERATION),
        dists=t.array("dists", L.DIST),
        table=np.array(t.rows.get("table") or [(0.0, 0.0)], np.float64),
        users=np.zeros(users, L.USER),
        spans=np.zeros(1, L.SPAN),
        flow=t.array("flow", L.FLOW),
        mix=t.array("mix", L.MIX),
        gens=gens,
        rates=np.zeros(1, L.RATE),
        pools=pools,
        conns=t.array("conns", L.CONN_T),
        pool_hist=np.zeros(SEGMENTS * len(pools) * BUCKETS, np.int64),
        refused=np.zeros(seconds * len(stations), np.int64),
        repeats=np.zeros(len(edges), L.REPEAT),
        notices=np.zeros(NOTICES, L.NOTICE),
        hist=np.zeros(SEGMENTS * n_ops * len(OUTCOMES) * BUCKETS, np.int64),
        sums=np.zeros(SEGMENTS * n_ops * len(OUTCOMES)),
        started=np.zeros(seconds * n_ops, np.int64),
        ok=np.zeros(seconds * n_ops, np.int64),
        failed=np.zeros(seconds * n_ops, np.int64),
        scratch=np.zeros(BUCKETS, np.int64),
        segments=np.zeros(SEGMENTS, np.int64),
        probes=np.zeros(_probe_rows(scenario, t), L.PROBE_ROW),
        requests=np.zeros(1 << 16 if keep_requests else 1, L.REQUEST_ROW),
        acks=np.zeros(_number_data_nodes(t, stations) * L.RING + 1, np.int64),
        terms=np.zeros((len(edges) + 1) * len(L.TERMS), np.int64),
    )
    _empty(k, requests)
    _globals(k, t, scenario, seed, replication, seconds, keep_requests)
    return k


def _number_data_nodes(t: Tables, stations) -> int:
    """Give each station that commits its part of the ring; returns how many there are."""
    committing = {t.ops[i].partition("/")[0] for i, op in enumerate(t.rows["ops"][: t.user_ops])
                  if op["commits"]}  # fmt: skip
    nodes = [st for st, one in enumerate(t.stations) if one.service in committing]
    for n, st in enumerate(nodes):
        stations[st]["ring"] = n * L.RING
    return len(nodes)


def user_count(scenario: Scenario) -> int:
    """The most virtual users that the load can have."""
    load = scenario.load
    if is_open_loop(load):
        peak = max([load.start, *(target for _, target in load.stages)]) / load.time_unit_s
        return max(1, load.max_vus or load.pre_allocated_vus or math.ceil(100 + 20 * peak))
    return max(1, round(max([load.start, *(target for _, target in load.stages)])))


def _probe_rows(scenario: Scenario, t: Tables) -> int:
    return round(scenario.load.duration_s * scenario.probe_rate + 2) * max(1, len(t.probe_ops))


def _empty(k, requests: int) -> None:
    """Every index that means nothing yet is -1; all slots are free."""
    k.nodes["bucket"] = -1
    k.queues["head"] = k.queues["tail"] = -1
    k.slots["qnext"] = np.arange(1, len(k.slots) + 1)
    k.slots["shadow"][requests:] = 1
    k.g[L.SLOTS], k.g[L.PROBE_SLOTS] = requests, PROBE_SLOTS
    k.g[L.FREE_PROBE] = requests
    k.slots["queue"] = -1
    k.users["slot"] = k.users["conn"] = k.users["next_free"] = -1


def _globals(k, t: Tables, scenario, seed, replication, seconds, keep_requests) -> None:
    client = scenario.load.client
    g = k.g
    g[L.NODE_USER] = len(k.stations)
    g[L.NODE_GEN] = g[L.NODE_USER] + len(k.users)
    g[L.NODE_REPEAT] = g[L.NODE_GEN] + len(k.gens)
    g[L.NODE_POOL] = g[L.NODE_REPEAT] + len(k.repeats)
    g[L.NODE_SLOT] = g[L.NODE_POOL] + len(k.pools)
    g[L.SHIFT], g[L.MASK] = 20, len(k.heads) - 1
    g[L.SAME_T], g[L.FREE_USER] = -1, -1
    g[L.NOPS], g[L.SECONDS] = t.user_ops, seconds
    g[L.NFLOW] = len(k.flow) - 1
    g[L.NSEGMENT] = 1
    g[L.KEEP_ALIVE], g[L.REPLAY] = client.keep_alive, client.replay
    g[L.CLIENT_TIMEOUT], g[L.CLIENT_CONNECT] = ns(client.timeout_s), ns(client.connect_timeout_s)
    g[L.CLIENT_RETRIES], g[L.CLIENT_BACKOFF] = client.retries, ns(client.backoff_s)
    g[L.JITTER_PPM] = round(client.jitter * 1e6)
    g[L.MAX_USERS] = len(k.users)
    g[L.OPEN_LOOP] = is_open_loop(scenario.load)
    g[L.REQUESTS_ON] = keep_requests
    g[L.LINEAR_SYN] = 1
    g[L.KEY0] = np.int64(np.uint64(seed & 0xFFFFFFFFFFFFFFFF).view(np.int64))
    g[L.KEY1] = replication


def load_rows(t: Tables, scenario: Scenario) -> None:
    """The rows that depend on the scenario: flow, mix and probed paths."""
    number = {name: i for i, name in enumerate(t.ops)}
    short: dict[str, str] = {}
    for name in t.ops:
        short.setdefault(name.partition("/")[2], name)
    for step in scenario.load.flow:
        first, upto = len(t.rows.setdefault("mix", [])), 0.0
        for op, weight in step.mix:
            upto += weight
            t.add("mix", upto=upto, op=number[op if op in number else short[op]])
        t.add("flow", first=first, count=len(step.mix), think=t.dist(step.think))
    used = {row["op"] for row in t.rows["mix"]}
    t.probe_ops = sorted(used)


def start_load(k, t: Tables, scenario: Scenario, start_ns: int):
    """Put users, arrivals and probes into the arrays; returns the Kernel and nodes to schedule.

    The second value is a list of (node, time in ns).
    """
    load = scenario.load
    first: list[tuple[int, int]] = []
    rates = rate_pieces(load, start_ns) if is_open_loop(load) else []
    flat: list[tuple[int, int, int]] = []
    if not is_open_loop(load):
        own = user_spans(load, start_ns)
        ends = np.cumsum([len(spans) for spans in own])
        k.users["last_span"][: len(own)] = ends
        k.users["span"][1 : len(own)] = ends[:-1]
        flat = [span for spans in own for span in spans]
    k = k.replace(
        spans=np.array([*flat, (0, 0, 0)], L.SPAN),
        rates=np.array([_rate(r) for r in rates] or [(0, 0, 0.0, 0.0, 0.0)], L.RATE),
    )
    k.g[L.WARM] = start_ns
    k.segments[0] = start_ns
    end = start_ns + ns(load.duration_s)
    every = round(L.NS / scenario.probe_rate) if scenario.probe_rate > 0 else 0
    for i, op in enumerate(t.probe_ops):
        gen = k.gens[i]
        gen["kind"], gen["op"], gen["every"], gen["until"] = L.GEN_PROBE, op, every, end
        gen["timeout"] = ns(scenario.probe_timeout_s)
        if every:
            # paths take turns within the period; half a millisecond off the whole seconds
            at = start_ns + every * i // max(1, len(t.probe_ops)) + 500_000
            first.append((int(k.g[L.NODE_GEN]) + i, at))
    if rates:
        i = len(t.probe_ops)
        gen = k.gens[i]
        gen["kind"], gen["count"], gen["number"] = L.GEN_ARRIVALS, len(rates), 0
        gen["poisson"] = load.arrivals == "poisson"
        first.append((int(k.g[L.NODE_GEN]) + i, -1))
    return k, first


def _rate(r: dict[str, float]) -> tuple:
    return (round(r["t0"]), round(r["t1"]), r["r0"], r["slope"], r["sum0"])


def grow(k, probes: bool):
    """The same Kernel with twice the slots for requests, or for probes."""
    total, count = len(k.slots), L.PROBE_SLOTS if probes else L.SLOTS
    head = L.FREE_PROBE if probes else L.FREE_HEAD
    more = int(k.g[count])
    slots = np.concatenate([k.slots, np.zeros(more, L.SLOT)])
    slots["qnext"][total:] = np.arange(total + 1, total + more + 1)
    slots["queue"][total:] = -1
    slots["shadow"][total:] = probes
    slots["qnext"][-1] = k.g[head]
    k.g[head] = total
    k.g[count] += more
    nodes = np.concatenate([k.nodes, np.zeros(more, L.NODE)])
    nodes["bucket"][-more:] = -1
    ready = np.zeros(1 << (total + more).bit_length(), np.int32)
    return k.replace(slots=slots, nodes=nodes, ready=ready)
