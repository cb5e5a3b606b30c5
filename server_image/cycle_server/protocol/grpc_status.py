"""Open Inference Protocol's service and our errors in gRPC's words, without gRPC's library: the sidecar has none."""

import math

SERVICE = "inference.GRPCInferenceService"
OK, INTERNAL = 0, 13
# HTTP's status -> gRPC's (grpc.github.io/grpc/core/md_doc_statuscodes.html).
CODES = {
    400: 3,  # INVALID_ARGUMENT
    404: 5,  # NOT_FOUND
    413: 8,  # RESOURCE_EXHAUSTED
    429: 8,
    501: 12,  # UNIMPLEMENTED
    503: 14,  # UNAVAILABLE
}


class RefusedError(Exception):
    """A call that gets an error. ``status`` is HTTP's; ``retry_after_seconds`` says when it may come again."""

    def __init__(self, message: str, *, status: int, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


def retry(seconds: float | None) -> tuple[tuple[str, str], ...]:
    """HTTP's Retry-After, and gRPC's own word, which its clients' retries follow (gRPC proposal A6)."""
    if seconds is None:
        return ()
    milliseconds = max(1, math.ceil(seconds * 1000))
    return (("retry-after", str(max(1, math.ceil(seconds)))), ("grpc-retry-pushback-ms", str(milliseconds)))
