"""The simulator's primitives: plain numpy arrays in and out, loops compiled by numba.

    arrivals     gaps between requests: Poisson, gamma, bursts (MMPP), a recorded trace
    queues       one stage: first come first served with many servers, and the batch queue of one replica
    fleet        replicas behind balancers: round robin, least connections, consistent hash with bounded load
    rules        what they take: tables of service times, rules of batching, a CPU limit as a quota
    intervals    confidence intervals by batch means
    kernels, fleet_kernel, quota   the compiled loops; numba is imported when the first of them runs, not before

Importing this package is cheap (no numba): the operator must start, and ``cycleops plan`` refuse, without waiting.
"""
