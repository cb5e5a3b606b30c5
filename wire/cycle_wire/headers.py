"""Names of the headers that a request's hops agree on; gRPC's metadata have the same names in lower case."""

TENANT_HEADER = "X-Cycle-Tenant"  # whose request it is
PRIORITY_HEADER = "X-Cycle-Priority"
DEADLINE_HEADER = "X-Cycle-Deadline-Ms"  # milliseconds that the client still waits
CACHE_HEADER = "X-Cycle-Cache"  # of a request: bypass; of an answer: the outcome
AFFINITY_HEADER = "X-Cycle-Affinity"  # requests of one value go to one pod
ELAPSED_HEADER = "X-Cycle-Elapsed-Us"  # microseconds; for the hop before, which takes it out
TERMS_HEADER = "X-Cycle-Terms-Us"  # how many of them are the model's terms and the wait for it
