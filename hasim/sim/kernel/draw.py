"""Random numbers by counter, and inverse distribution functions.

draw(seed, replication | ordinal, entity, path, block) is one Philox4x64-10 block (Salmon et al.,
"Parallel random numbers: as easy as 1, 2, 3", 2011; numpy's Philox is the oracle in the tests) of
four 64-bit words. The entity is the demand (a user, an arrival stream, a probe), never a server
or an attempt, so a retried request brings the same work.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from hasim.sim.kernel import layout as L
from hasim.sim.kernel.layout import jit

M0, M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
W0, W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)


@intrinsic
def mulhi(typingctx, a, b):
    """The upper 64 bits of a 64 x 64 bit product; numba has no word for it."""

    def codegen(context, builder, signature, args):
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), codegen


@intrinsic
def bit_length(typingctx, x):
    """int.bit_length of a positive int64."""

    def codegen(context, builder, signature, args):
        word = ir.IntType(64)
        zeros = builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))
        return builder.sub(ir.Constant(word, 64), zeros)

    return types.int64(types.int64), codegen


@jit
def philox(c0, c1, c2, c3, k0, k1):
    """One block of Philox4x64-10: four uint64 from a counter and a key."""
    for _ in range(10):
        hi0, lo0 = mulhi(M0, c0), M0 * c0
        hi1, lo1 = mulhi(M1, c2), M1 * c2
        c0, c1, c2, c3 = hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0
        k0 += W0
        k1 += W1
    return c0, c1, c2, c3


@jit
def words(k, ordinal, entity, path, block):
    """Four words for one demand."""
    return philox(ordinal, entity, path, block, np.uint64(k.g[L.KEY0]), np.uint64(k.g[L.KEY1]))


@jit
def unit(word):
    """A word as a float in [0, 1): its upper 53 bits."""
    return float(word >> np.uint64(11)) * 1.1102230246251565e-16


@jit
def uniform_at(k, tick, stream):
    """A control-plane draw in [0, 1): (process and purpose, tick)."""
    block = words(k, np.uint64(tick), np.uint64(stream), np.uint64(0), np.uint64(1 << 40))
    return unit(block[0])


@jit
def step_word(k, s):
    """The next random word of the slot's operation: two come with the request, then blocks."""
    slot = k.slots[s]
    n = slot.nrand
    slot.nrand = n + 1
    if n == 0:
        return slot.w2
    if n == 1:
        return slot.w3
    block = words(k, slot.ordinal, slot.entity, slot.path, np.uint64(1 + (n - 2) // 4))
    lane = (n - 2) % 4
    if lane == 0:
        return block[0]
    if lane == 1:
        return block[1]
    return block[2] if lane == 2 else block[3]


@jit
def normal_quantile(p):
    """Inverse of the standard normal distribution (Wichura, AS 241 PPND16, 1988)."""
    q = p - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        num = (((((((2509.0809287301226727 * r + 33430.575583588128105) * r
                + 67265.770927008700853) * r + 45921.953931549871457) * r
                + 13731.693765509461125) * r + 1971.5909503065514427) * r
                + 133.14166789178437745) * r + 3.387132872796366608)  # fmt: skip
        den = (((((((5226.495278852545925 * r + 28729.085735721942674) * r
                + 39307.89580009271061) * r + 21213.794301586595867) * r
                + 5394.1960214247511077) * r + 687.1870074920579083) * r
                + 42.313330701600911252) * r + 1.0)  # fmt: skip
        return q * num / den
    r = math.sqrt(-math.log(min(p, 1.0 - p)))
    if r <= 5.0:
        r -= 1.6
        num = (((((((7.7454501427834140764e-4 * r + 0.0227238449892691845833) * r
                + 0.24178072517745061177) * r + 1.27045825245236838258) * r
                + 3.64784832476320460504) * r + 5.7694972214606914055) * r
                + 4.6303378461565452959) * r + 1.42343711074968357734)  # fmt: skip
        den = (((((((1.05075007164441684324e-9 * r + 5.475938084995344946e-4) * r
                + 0.0151986665636164571966) * r + 0.14810397642748007459) * r
                + 0.68976733498510000455) * r + 1.6763848301838038494) * r
                + 2.05319162663775882187) * r + 1.0)  # fmt: skip
    else:
        r -= 5.0
        num = (((((((2.01033439929228813265e-7 * r + 2.71155556874348757815e-5) * r
                + 0.0012426609473880784386) * r + 0.026532189526576123093) * r
                + 0.29656057182850489123) * r + 1.7848265399172913358) * r
                + 5.4637849111641143699) * r + 6.6579046435011037772)  # fmt: skip
        den = (((((((2.04426310338993978564e-15 * r + 1.4215117583164458887e-7) * r
                + 1.8463183175100546818e-5) * r + 7.868691311456132591e-4) * r
                + 0.0148753612908506148525) * r + 0.13692988092273580531) * r
                + 0.59983220655588793769) * r + 1.0)  # fmt: skip
    return num / den if q > 0.0 else -num / den


@jit
def from_table(k, d, u):
    """Quantile table: piecewise linear through (p, value) rows."""
    lo, hi = d.first, d.first + d.count - 1
    while hi - lo > 1:
        mid = (lo + hi) // 2
        if k.table[mid, 0] <= u:
            lo = mid
        else:
            hi = mid
    p0, p1 = k.table[lo, 0], k.table[hi, 0]
    v0, v1 = k.table[lo, 1], k.table[hi, 1]
    return v0 if p1 <= p0 else v0 + (v1 - v0) * (u - p0) / (p1 - p0)


@jit
def from_hyperexp(k, d, u):
    """Mixture of exponentials, inverted by bisection: monotone, one word."""
    lo, hi = 0.0, 1.0
    for i in range(d.first, d.first + d.count):
        hi = max(hi, 45.0 * k.table[i, 1])
    for _ in range(64):
        x = 0.5 * (lo + hi)
        tail = 0.0
        for i in range(d.first, d.first + d.count):
            tail += k.table[i, 0] * math.exp(-x / k.table[i, 1])
        if 1.0 - tail < u:
            lo = x
        else:
            hi = x
    return 0.5 * (lo + hi)


@jit
def sample(k, dist, word):
    """The value in ns of distribution number `dist` at this random word."""
    d = k.dists[dist]
    if d.kind == L.CONST:
        return np.int64(d.a + 0.5)
    u = unit(word)
    if d.kind == L.EXP:
        x = -math.log(1.0 - u) * d.a
    elif d.kind == L.LOGNORMAL:
        x = d.a * math.exp(d.b * normal_quantile(max(u, 1e-17)))
    elif d.kind == L.UNIFORM:
        x = d.a + (d.b - d.a) * u
    elif d.kind == L.QUANTILES:
        x = from_table(k, d, u)
    elif d.kind == L.HYPEREXP:
        x = from_hyperexp(k, d, u)
    else:
        x = 0.0
    return np.int64(x + 0.5)
