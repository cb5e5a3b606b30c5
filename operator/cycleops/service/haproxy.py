"""The balancer's configuration, for HAProxy 3.0. Pure: settings in, text out.

Choices, and why:

- Pods are found by DNS: the headless Service answers with the A records of the ready pods only, once a second. There
  are more slots than replicas, so that a rolling update has room.
- A pod is asked each second whether it is ready; between two DNS answers this is what takes a draining or dead pod out.
- The queue belongs to the server, where its time is measured. The balancer's own (``maxconn`` per pod, then
  ``timeout queue``) is a backstop that turns overload into a quick 503 with Retry-After.
- A request is tried again, on another pod, only where that is safe: its connection failed, or the pod closed it (it was
  killed) before the first byte of an answer. Every request that the pods know computes and changes nothing. A late or
  failed answer is never asked for again: that would double the load when there is too much already.
- A pod whose answers are ten errors (5xx) in a row is left alone until its next good check, half a second later: one
  that fails or sheds quickly has few connections and would draw all requests. When no pod is left, all that DNS knows
  are asked whatever their checks say (``unchecked``): a breaker never turns errors of some into errors of all.
- ``/healthz`` says that HAProxy runs, not that a pod is up: a balancer that leaves its Service turns every request into
  a refused connection, one that stays answers 503 with Retry-After. Whether pods are up is a condition of the
  CycleService. A balancer that starts is another thing: it gets no request before ``/started`` says that it knows a
  pod, so a service that is Ready answers, and a new balancer refuses nothing that the old one would have passed on.
- Consistent hashing uses a header's value or else the request's body, has bounded loads, and hashes pods by address:
  two balancers learn the same pods from DNS in different orders and must still agree. The body is looked at as it is,
  up to HAProxy's buffer (16 KiB): only the cache sidecar knows which bodies mean the same.
- gRPC calls are requests like others: HTTP/2 to the client, HTTP/1.1 to the pods, trailers included. So each is
  balanced on its own, whatever connection it came by, and a pod writes the whole of a small answer at once: where it
  is killed, no byte has come and another pod is asked, or all have. An error of gRPC is a 200 to HTTP: the breaker does
  not see it, and neither does the count of errors.
- What T is and how it is counted: ``haproxy_times``. TLS, API keys, request and trace ids: ``haproxy_door``.
- One thread: least connections is then exact, and it is good for more requests per second than the pods behind it.
"""

from dataclasses import dataclass

from cycle_wire.buckets import time_buckets
from cycle_wire.headers import AFFINITY_HEADER
from cycleops.api.cycleservice import BalancingAlgorithm
from cycleops.service import haproxy_door, haproxy_times
from cycleops.service.haproxy_door import Door

HTTP_PORT = 8080
GRPC_PORT = 9000
ADMIN_PORT = 8405
FRONTEND = "requests"  # its name in HAProxy's own metrics
POD_PORT = 8081
READY_PATH = "/v2/health/ready"
STARTED_PATH = "/started"
MAXIMUM_CONNECTIONS = 4096
# A pod may get this share of the mean load before consistent hashing goes on to the next one.
BOUNDED_LOAD_PERCENT = 150
ERRORS_IN_A_ROW = 10
CONFIG_FOLDER = "/etc/haproxy"
# Errors only. Neither bodies nor query strings nor headers that a client chose freely.
_LOG = (
    "%ci:%cp %s %ST %tsc timers=%TR/%Tw/%Tc/%Tr/%Ta retries=%rc "
    "request=%[var(txn.id)] trace=%[var(txn.trace)] tenant=%[var(txn.tenant)] %HM %HPO"
)
_UNAVAILABLE = '{\\"error\\":\\"no replica can take the request now\\"}'
_CHECK = (
    "check inter 1s fastinter 250ms downinter 500ms fall 2 rise 1 "
    f"observe layer7 error-limit {ERRORS_IN_A_ROW} on-error mark-down"
)
_TIMED_OUT = '{\\"error\\":\\"the replica did not answer in time\\"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancer:
    """What the configuration depends on. Nothing here follows the plan, so a new plan does not restart balancers."""

    algorithm: BalancingAlgorithm
    pods_name: str  # DNS name of the headless Service, with the cluster's domain
    slots: int  # most pods that can be known at once
    budget_milliseconds: int  # what servers shed by
    target_milliseconds: float  # the latency budget: the histogram of T is fine around it
    connections_per_pod: int
    drain_seconds: int
    door: Door = Door()
    affinity_header: str = AFFINITY_HEADER
    nameservers: tuple[str, ...] = ()  # address:port; empty: those in the pod's resolv.conf
    address: str = ""  # empty: every address
    grpc_port: int = 0  # 0: no gRPC
    config_folder: str = CONFIG_FOLDER
    http_port: int = HTTP_PORT
    admin_port: int = ADMIN_PORT
    pod_port: int = POD_PORT


def render(balancer: Balancer) -> str:
    """The whole haproxy.cfg."""
    parts = (
        _process(balancer),
        _resolvers(balancer),
        _frontends(balancer),
        _backends(balancer),
        haproxy_times.table(_bounds(balancer)),
    )
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def render_pages(balancer: Balancer) -> dict[str, str]:
    """The files beside it, by name, that the pages of T's histograms are made from."""
    return haproxy_times.page_files(_bounds(balancer))


def _bounds(balancer: Balancer) -> tuple[float, ...]:
    return time_buckets(balancer.target_milliseconds)


def _process(balancer: Balancer) -> str:
    # Late is late, not an error: the server itself sheds what would miss the budget.
    server_milliseconds = max(10 * balancer.budget_milliseconds, 5000)
    return f"""
global
    log stdout format raw local0 notice
    nbthread 1
    maxconn {MAXIMUM_CONNECTIONS}
    hard-stop-after {balancer.drain_seconds}s
{haproxy_door.process_lines(balancer.door)}
defaults
    mode http
    log global
    log-format "{_LOG}"
    option dontlog-normal
    option log-separate-errors
    option redispatch 1
    option abortonclose
    option idle-close-on-response
    option forwardfor
    retries 2
    retry-on conn-failure empty-response
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
    door = balancer.door
    return f"""
frontend {FRONTEND}
{haproxy_door.bind(door, address=balancer.address, port=balancer.http_port, grpc_port=balancer.grpc_port)}
{haproxy_times.request_rules()}
{haproxy_door.id_rules()}
{haproxy_door.key_rules(door)}{_affinity(balancer)}    http-request disable-l7-retry unless {{ method GET HEAD POST }}
{haproxy_times.response_rules(_bounds(balancer))}
    http-after-response set-header X-Request-Id %[var(txn.id)]
    use_backend unchecked if {{ nbsrv(pods) eq 0 }}
    default_backend pods

frontend admin
    bind {balancer.address}:{balancer.admin_port}
    option dontlog-normal
    monitor-uri /healthz
    http-request return status 200 if {{ path {STARTED_PATH} }} {{ nbsrv(pods) gt 0 }}
    http-request return status 503 if {{ path {STARTED_PATH} }}
    http-request use-service prometheus-exporter if {{ path /metrics }}
{haproxy_times.page_rules(balancer.config_folder)}
    http-request return status 404
"""


def _affinity(balancer: Balancer) -> str:
    if balancer.algorithm is not BalancingAlgorithm.CONSISTENT_HASH:
        return ""
    return f"""    option http-buffer-request
    http-request set-var(txn.affinity) req.hdr({balancer.affinity_header})
    http-request set-var(txn.affinity) req.body unless {{ var(txn.affinity) -m found }}
"""


def _backends(balancer: Balancer) -> str:
    """The pods, and the same again without checks, for when no check is good."""
    hashing = balancer.algorithm is BalancingAlgorithm.CONSISTENT_HASH
    key = " hash-key addr" if hashing else ""
    pods = f"{balancer.pods_name}:{balancer.pod_port}"
    limit = balancer.connections_per_pod
    servers = f"maxconn {limit} resolvers cluster resolve-prefer ipv4 init-addr none{key}"
    return f"""
backend pods
{_balance(balancer.algorithm)}
    option httpchk
    http-check send meth GET uri {READY_PATH} ver HTTP/1.1 hdr Host pods
    http-check expect status 200
    default-server {_CHECK}
    default-server {servers}
    server-template pod 1-{balancer.slots} {pods}

backend unchecked
{_balance(balancer.algorithm)}
    default-server {servers}
    server-template pod 1-{balancer.slots} {pods}
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
