"""URIs of models and data. ``pvc://CLAIM/PATH`` is what works today; pure."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

MOUNT_ROOT = PurePosixPath("/mnt/pvc")
MAXIMUM_LENGTH = 1024
# Also the CRD's pattern. A path is given (a whole claim is nobody's model), and no segment of it is "." or "..".
_CLAIM = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_SEGMENT = r"(\.{0,2}[A-Za-z0-9_@=+-][A-Za-z0-9_@=+.-]*|\.{3}[A-Za-z0-9_@=+.-]*)"
PVC_PATTERN = rf"^pvc://{_CLAIM}(/{_SEGMENT})+/?$"
_PARTS = re.compile(r"^pvc://(?P<claim>[^/]+)/(?P<path>.+?)/?$")


class BadUriError(ValueError):
    """The URI is not one that the operator can mount; the message says why."""


@dataclass(frozen=True)
class PvcUri:
    """A folder or file on a PersistentVolumeClaim of the object's namespace."""

    claim: str
    path: str

    @property
    def container_path(self) -> PurePosixPath:
        """Where pods see it: each claim is mounted at /mnt/pvc/CLAIM."""
        return MOUNT_ROOT / self.claim / self.path

    def __str__(self) -> str:
        return f"pvc://{self.claim}/{self.path}"

    def joined(self, *segments: str) -> "PvcUri":
        return PvcUri(claim=self.claim, path="/".join((self.path, *segments)))


def parse_uri(text: str) -> PvcUri:
    """The parts of a URI; raises :class:`BadUriError`."""
    scheme, separator, _ = text.partition("://")
    if not separator:
        raise BadUriError(f"{text!r} is not a URI: pvc://CLAIM/PATH is what works today")
    if scheme != "pvc":
        raise BadUriError(f"{text!r}: {scheme}:// is not supported: pvc://CLAIM/PATH is what works today")
    if len(text) > MAXIMUM_LENGTH or not re.fullmatch(PVC_PATTERN, text):
        raise BadUriError(f"{text!r} must be pvc://CLAIM/PATH without '.' or '..' in it")
    parts = _PARTS.match(text)
    assert parts is not None  # PVC_PATTERN is stricter
    return PvcUri(claim=parts["claim"], path=parts["path"])
