"""What makes two requests the same.

The key is the SHA-256 of canonical JSON (keys sorted, defaults filled, the text untouched) of everything that can
change the answer: the request, the model's name and version in the URL, the tenant, the model's digest and the variant.
The tokenizer is part of the variant. The request's id isn't in the key: each answer gets its own requester's.
"""

import hashlib
import json
from dataclasses import dataclass

from cycle_server.protocol import v2

KEY_SCHEMA = 1  # raised whenever the same key would mean another answer


@dataclass(frozen=True)
class Identity:
    """What this pod serves."""

    model_digest: str
    variant: str


def cache_key(request: v2.InferRequest, *, model: str, version: str | None, tenant: str, identity: Identity) -> bytes:
    canonical = json.dumps(
        {
            "schema": KEY_SCHEMA,
            "model": model,
            "version": version,
            "tenant": tenant,
            "digest": identity.model_digest,
            "variant": identity.variant,
            "request": request.canonical(),
        },
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
    )
    return hashlib.sha256(canonical.encode("ascii")).digest()


def with_id(body: bytes, request_id: str | None) -> bytes:
    """The answer ``body``, a JSON object without an id, as the requester with this id gets it."""
    if request_id is None:
        return body
    return b'{"id":' + json.dumps(request_id).encode("ascii") + b"," + body[1:]


def without_id(request: v2.InferRequest) -> bytes:
    """The request as it goes to the server, so that its answer fits every requester."""
    return request.model_dump_json(exclude={"id"}).encode()
