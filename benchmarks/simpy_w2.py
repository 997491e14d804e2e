"""W2 in idiomatic SimPy (processes and Resources): the other yardstick of benchmarks/speed.py.

usage: python simpy_w2.py SEED SECONDS  ->  requests, mean sojourn in ms, CPU seconds
"""

from __future__ import annotations

import random
import sys
import time

import simpy


def main(seed: int, end_s: float) -> None:
    draw = random.Random(seed).expovariate
    env = simpy.Environment()
    gateways = [simpy.Resource(env, 4) for _ in range(3)]
    database = simpy.Resource(env, 40)
    turn, times = [0], []

    def user():
        while True:
            yield env.timeout(draw(1.0))
            begun = env.now
            gateway = gateways[turn[0] % 3]
            turn[0] += 1
            with gateway.request() as place:
                yield place
                yield env.timeout(draw(1 / 0.005))
            with database.request() as place:
                yield place
                yield env.timeout(draw(1 / 0.008))
            times.append(env.now - begun)

    for _ in range(500):
        env.process(user())
    start = time.process_time()
    env.run(until=end_s)
    cpu = time.process_time() - start
    print(len(times), f"{1e3 * sum(times) / len(times):.6f} {cpu:.6f}")


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
