/* W2 as a plain C event loop with a 4-ary heap: the yardstick of benchmarks/speed.py.
 * 500 users think exp(1 s), round robin over 3 gateways x 4 workers of exp(5 ms), then a data
 * base with 40 workers of exp(8 ms); 1020 s. xoshiro256+, -log(u).
 * build: cc -O3 -o w2 w2.c -lm      run: ./w2 SEED  ->  requests, mean sojourn in ms, CPU seconds
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { USERS = 500, GATEWAYS = 3, WORKERS = 4, DB = 40 };
static const double END = 1020.0, THINK = 1.0, GATEWAY = 0.005, DATABASE = 0.008;
static uint64_t s[4];
static double begin_at[USERS], heap_t[USERS];
static int heap_u[USERS], heap_n, phase[USERS], where[USERS];
static int busy[GATEWAYS + 1], queue[GATEWAYS + 1][USERS], head[GATEWAYS + 1], count[GATEWAYS + 1];

static uint64_t rotl(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }
static double uniform(void) {
    uint64_t r = s[0] + s[3], t = s[1] << 17;
    s[2] ^= s[0]; s[3] ^= s[1]; s[1] ^= s[2]; s[0] ^= s[3]; s[2] ^= t; s[3] = rotl(s[3], 45);
    return ((r >> 11) + 0.5) * 0x1.0p-53;
}
static double draw(double mean) { return -mean * log(uniform()); }
static void push(double t, int u) {
    int i = heap_n++;
    while (i) {
        int p = (i - 1) / 4;
        if (heap_t[p] <= t) break;
        heap_t[i] = heap_t[p]; heap_u[i] = heap_u[p]; i = p;
    }
    heap_t[i] = t; heap_u[i] = u;
}
static int pop(double *t) {
    int u = heap_u[0], i = 0;
    *t = heap_t[0];
    double last = heap_t[--heap_n];
    int lu = heap_u[heap_n];
    for (;;) {
        int c = 4 * i + 1, best = c;
        if (c >= heap_n) break;
        for (int j = c + 1; j < c + 4 && j < heap_n; j++) if (heap_t[j] < heap_t[best]) best = j;
        if (heap_t[best] >= last) break;
        heap_t[i] = heap_t[best]; heap_u[i] = heap_u[best]; i = best;
    }
    heap_t[i] = last; heap_u[i] = lu;
    return u;
}
static void arrive(double now, int u, int q) {
    where[u] = q;
    if (busy[q] < (q < GATEWAYS ? WORKERS : DB)) {
        busy[q]++;
        push(now + draw(q < GATEWAYS ? GATEWAY : DATABASE), u);
    } else {
        queue[q][(head[q] + count[q]++) % USERS] = u;
    }
}
static void leave(double now, int q) {
    if (count[q]) {
        int u = queue[q][head[q]];
        head[q] = (head[q] + 1) % USERS; count[q]--;
        push(now + draw(q < GATEWAYS ? GATEWAY : DATABASE), u);
    } else {
        busy[q]--;
    }
}
int main(int argc, char **argv) {
    uint64_t z = argc > 1 ? strtoull(argv[1], 0, 10) : 1;
    for (int i = 0; i < 4; i++) {
        z += 0x9e3779b97f4a7c15u;
        uint64_t x = z;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u; x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        s[i] = x ^ (x >> 31);
    }
    clock_t c0 = clock();
    long done = 0, turn = 0;
    double sum = 0, now;
    for (int u = 0; u < USERS; u++) push(draw(THINK), u);
    while (heap_n) {
        int u = pop(&now);
        if (now >= END) break;
        if (phase[u] == 0) {
            begin_at[u] = now; phase[u] = 1; arrive(now, u, (int)(turn++ % GATEWAYS));
        } else if (phase[u] == 1) {
            leave(now, where[u]); phase[u] = 2; arrive(now, u, GATEWAYS);
        } else {
            leave(now, GATEWAYS); phase[u] = 0; sum += now - begin_at[u]; done++;
            push(now + draw(THINK), u);
        }
    }
    printf("%ld %.6f %.6f\n", done, 1e3 * sum / done, (double)(clock() - c0) / CLOCKS_PER_SEC);
    return 0;
}
