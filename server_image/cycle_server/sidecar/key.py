"""What makes two requests the same.

The key is the SHA-256 of canonical JSON (keys sorted, defaults filled, the text untouched) of everything that can
change the answer: the request, the URL's path with the model's name and version, the tenant, the model's digest and the
variant. The tokenizer is part of the variant. The request's id isn't in the key: each answer gets its requester's own.
"""

import hashlib
import json
from dataclasses import dataclass

from cycle_server.protocol import v2

KEY_SCHEMA = 2  # raised whenever the same key would mean another answer


@dataclass(frozen=True)
class Identity:
    """What this pod serves."""

    model_digest: str
    variant: str


def cache_key(request: v2.InferRequest, *, path: str, tenant: str, identity: Identity) -> bytes:
    """``path`` as the client sent it. Raises ValueError for a request with NaN or infinite numbers: JSON has none."""
    canonical = json.dumps(
        {
            "schema": KEY_SCHEMA,
            "path": path,
            "tenant": tenant,
            "digest": identity.model_digest,
            "variant": identity.variant,
            "request": request.canonical(),
        },
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
        allow_nan=False,
    )
    return hashlib.sha256(canonical.encode("ascii")).digest()


def raw_digest(*, path: str, tenant: str, body: bytes) -> bytes:
    """Of a request as it came: what was read once need not be read again."""
    where = f"{len(path)},{len(tenant)}:{path}{tenant}".encode()
    return hashlib.sha256(where + body).digest()


def with_id(body: bytes, request_id: str | None) -> bytes:
    """The answer ``body``, a JSON object without an id, as the requester with this id gets it."""
    if request_id is None:
        return body
    return b'{"id":' + json.dumps(request_id).encode("ascii") + b"," + body[1:]


def takes_an_id(body: bytes) -> bool:
    """Whether ``with_id`` can work on it: a JSON object with a field, written without spaces before it."""
    return body.startswith(b'{"') and not body.startswith(b'{"id"')


def without_id(request: v2.InferRequest) -> bytes:
    """The request as it goes to the server, so that its answer fits every requester."""
    return request.model_dump_json(exclude={"id"}, exclude_unset=True).encode()
