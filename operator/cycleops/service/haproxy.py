"""The balancer's configuration, for HAProxy 3.0. Pure: settings in, text out.

Choices, and why:

- Pods are found by DNS: the headless Service answers with the A records of the ready pods only, once a second. There
  are more slots than replicas, so that a rolling update has room.
- A pod is asked each second whether it is ready; between two DNS answers this is what takes a draining or dead pod out.
- The queue belongs to the server, where its time is measured. The balancer's own (``maxconn`` per pod, then
  ``timeout queue``) is a backstop that turns overload into a quick 503 with Retry-After.
- Only failed connections are tried again, and on another pod: nothing of the request was sent yet.
- ``/healthz`` says that HAProxy runs, not that a pod is up: a balancer that leaves its Service turns every request into
  a refused connection, one that stays answers 503 with Retry-After. Whether pods are up is a condition of the
  CycleService.
- Consistent hashing uses a header's value or else the request's body, has bounded loads, and hashes pods by address:
  two balancers learn the same pods from DNS in different orders and must still agree. The body is looked at as it is,
  up to HAProxy's buffer (16 KiB): only the cache sidecar knows which bodies mean the same.
- ``Server-Timing`` and ``traceparent`` pass through; ``X-Request-Id`` is made where the client sent none.
- One thread: least connections is then exact, and it is good for more requests per second than the pods behind it.
"""

from dataclasses import dataclass

from cycleops.api.cycleservice import BalancingAlgorithm

HTTP_PORT = 8080
ADMIN_PORT = 8405
FRONTEND = "requests"  # its name in HAProxy's own metrics
POD_PORT = 8081
READY_PATH = "/v2/health/ready"
MAXIMUM_CONNECTIONS = 4096
# A pod may get this share of the mean load before consistent hashing goes on to the next one.
BOUNDED_LOAD_PERCENT = 150
_UNAVAILABLE = '{\\"error\\":\\"no replica can take the request now\\"}'
_TIMED_OUT = '{\\"error\\":\\"the replica did not answer in time\\"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancer:
    """What the configuration depends on. Nothing here follows the plan, so a new plan does not restart balancers."""

    algorithm: BalancingAlgorithm
    pods_name: str  # DNS name of the headless Service, with the cluster's domain
    slots: int  # most pods that can be known at once
    budget_milliseconds: int
    connections_per_pod: int
    drain_seconds: int
    affinity_header: str = "x-cycle-affinity"
    nameservers: tuple[str, ...] = ()  # address:port; empty: those in the pod's resolv.conf
    address: str = ""  # empty: every address
    http_port: int = HTTP_PORT
    admin_port: int = ADMIN_PORT
    pod_port: int = POD_PORT


def render(balancer: Balancer) -> str:
    """The whole haproxy.cfg."""
    parts = (_process(balancer), _resolvers(balancer), _frontends(balancer), _backend(balancer))
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def _process(balancer: Balancer) -> str:
    # Late is late, not an error: the server itself sheds what would miss the budget.
    server_milliseconds = max(10 * balancer.budget_milliseconds, 5000)
    return f"""
global
    log stdout format raw local0 notice
    nbthread 1
    maxconn {MAXIMUM_CONNECTIONS}
    hard-stop-after {balancer.drain_seconds}s

defaults
    mode http
    log global
    option httplog
    option dontlog-normal
    option redispatch 1
    option abortonclose
    option idle-close-on-response
    option forwardfor
    retries 2
    retry-on conn-failure
    timeout connect 500ms
    timeout client 30s
    timeout http-request 10s
    timeout http-keep-alive 60s
    timeout queue {balancer.budget_milliseconds}ms
    timeout server {server_milliseconds}ms
    http-error status 503 content-type application/json string "{_UNAVAILABLE}" hdr Retry-After 1
    http-error status 504 content-type application/json string "{_TIMED_OUT}"
"""


def _resolvers(balancer: Balancer) -> str:
    servers = [f"    nameserver dns{i} {address}" for i, address in enumerate(balancer.nameservers)]
    lines = "\n".join(servers) or "    parse-resolv-conf"
    # A name without pods must not keep the last pods' addresses: another service's pod may have them by now.
    return f"""
resolvers cluster
{lines}
    accepted_payload_size 8192
    resolve_retries 3
    timeout resolve 1s
    timeout retry 500ms
    hold valid 1s
    hold obsolete 0s
    hold nx 5s
    hold other 30s
    hold refused 30s
    hold timeout 30s
"""


def _frontends(balancer: Balancer) -> str:
    return f"""
frontend {FRONTEND}
    bind {balancer.address}:{balancer.http_port}
{_affinity(balancer)}    http-request set-header X-Request-Id %[uuid()] unless {{ req.hdr(X-Request-Id) -m found }}
    http-request set-var(txn.id) req.hdr(X-Request-Id)
    http-response set-header X-Request-Id %[var(txn.id)]
    default_backend pods

frontend admin
    bind {balancer.address}:{balancer.admin_port}
    option dontlog-normal
    monitor-uri /healthz
    http-request use-service prometheus-exporter if {{ path /metrics }}
    http-request return status 404
"""


def _affinity(balancer: Balancer) -> str:
    if balancer.algorithm is not BalancingAlgorithm.CONSISTENT_HASH:
        return ""
    return f"""    option http-buffer-request
    http-request set-var(txn.affinity) req.hdr({balancer.affinity_header})
    http-request set-var(txn.affinity) req.body unless {{ var(txn.affinity) -m found }}
"""


def _backend(balancer: Balancer) -> str:
    hashing = balancer.algorithm is BalancingAlgorithm.CONSISTENT_HASH
    key = " hash-key addr" if hashing else ""
    return f"""
backend pods
{_balance(balancer.algorithm)}
    option httpchk
    http-check send meth GET uri {READY_PATH} ver HTTP/1.1 hdr Host pods
    http-check expect status 200
    default-server check inter 1s fastinter 250ms downinter 500ms fall 2 rise 1 observe layer4 on-error fastinter
    default-server maxconn {balancer.connections_per_pod} resolvers cluster resolve-prefer ipv4 init-addr none{key}
    server-template pod 1-{balancer.slots} {balancer.pods_name}:{balancer.pod_port}
"""


def _balance(algorithm: BalancingAlgorithm) -> str:
    lines = {
        BalancingAlgorithm.ROUND_ROBIN: ("balance roundrobin",),
        BalancingAlgorithm.LEAST_CONNECTIONS: ("balance leastconn",),
        BalancingAlgorithm.CONSISTENT_HASH: (
            "balance hash var(txn.affinity)",
            "hash-type consistent",
            f"hash-balance-factor {BOUNDED_LOAD_PERCENT}",
        ),
    }[algorithm]
    return "\n".join(f"    {line}" for line in lines)
