"""The balancer's door: TLS, API keys, and the ids that follow a request through all hops. Pure: settings in, text out.

- Keys never stand in the configuration. The Secret holds lines of ``<SHA-256 of a key, hex> <tenant>``, mounted as a
  map; the key that a client sends is hashed before it is looked up, so the time of the look-up says nothing about it.
  The tenant comes from the map and not from the client, and the key goes no further than here.
- ``X-Request-Id`` is the client's where it is short and harmless, else made. ``traceparent`` (W3C trace context) is the
  client's where it is well formed, else made, so that logs and exemplars of all hops have the same trace id.
"""

from dataclasses import dataclass

from cycle_wire.headers import TENANT_HEADER

# Not below the configuration's folder: nothing can be mounted into a read-only volume.
CERTIFICATE_FILE, KEYS_FILE = "/etc/haproxy-tls/tls.pem", "/etc/haproxy-keys/keys.map"
_CALL = "/inference.GRPCInferenceService"
HEALTH_PATHS = ("/v2/health/live", "/v2/health/ready", f"{_CALL}/ServerLive", f"{_CALL}/ServerReady")
_NO_KEY = '{\\"error\\":\\"a valid API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY\\"}'
_TRACE = "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Files inside the pod; empty: without TLS, without keys."""

    certificate_file: str = ""
    keys_file: str = ""


def process_lines(door: Door) -> str:
    return "    ssl-default-bind-options ssl-min-ver TLSv1.2\n" if door.certificate_file else ""


def bind(door: Door, *, address: str, port: int, grpc_port: int) -> str:
    """``grpc_port`` 0: none. It takes HTTP/2 only, which gRPC's clients begin without asking."""
    lines = [f"    bind {address}:{port}{_tls(door, 'h2,http/1.1')}"]
    if grpc_port:
        lines.append(f"    bind {address}:{grpc_port}{_tls(door, 'h2') or ' proto h2'}")
    return "\n".join(lines)


def _tls(door: Door, protocols: str) -> str:
    # The private key is the file beside the certificate with .key added: HAProxy looks for it.
    return f" ssl crt {door.certificate_file} alpn {protocols}" if door.certificate_file else ""


def id_rules() -> str:
    """Of the fixed digits of a UUID (version, variant) none is in the part of the trace id that samplers look at."""
    rules = (
        "set-header X-Request-Id %[uuid()] unless { req.hdr(X-Request-Id) -m reg ^[A-Za-z0-9._:-]{1,128}$ }",
        "set-var(txn.id) req.hdr(X-Request-Id)",
        "set-var(txn.hex) uuid(),regsub(-,,g)",
        "set-var(txn.span) uuid(),regsub(-,,g),bytes(16,16)",
        "set-header traceparent 00-%[var(txn.hex),bytes(12,20)]%[var(txn.hex),bytes(0,12)]-%[var(txn.span)]-01 "
        f"unless {{ req.hdr(traceparent) -m reg {_TRACE} }}",
        "set-var(txn.trace) req.hdr(traceparent)",
    )
    return "\n".join(f"    http-request {rule}" for rule in rules)


def key_rules(door: Door) -> str:
    """Empty without keys: the client then names its tenant itself."""
    if not door.keys_file:
        return ""
    rules = (
        "set-var(txn.key) req.hdr(X-API-Key)",
        "set-var(txn.key) req.hdr(Authorization),word(2,' ') if { req.hdr(Authorization) -m beg -i 'Bearer ' }",
        f"set-var(txn.tenant) var(txn.key),sha2(256),hex,lower,map_str({door.keys_file})",
        "unset-var(txn.key)",
        "del-header Authorization",
        "del-header X-API-Key",
        f"del-header {TENANT_HEADER}",
        f'return status 401 content-type application/json string "{_NO_KEY}" hdr WWW-Authenticate Bearer '
        f"unless {{ var(txn.tenant) -m found }} || {{ path {' '.join(HEALTH_PATHS)} }}",
        f"set-header {TENANT_HEADER} %[var(txn.tenant)] if {{ var(txn.tenant) -m found }}",
    )
    return "".join(f"    http-request {rule}\n" for rule in rules)
