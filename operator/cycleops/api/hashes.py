"""What makes a measurement hold: the hash of a HardwareClass, as profiles keep it."""

import hashlib
import json

from cycleops.api.hardwareclass import HardwareClassSpec

# Price and the number of machines don't change what one machine does.
_NOT_MEASURED = {"cost_per_hour", "maximum_replicas", "images", "tolerations"}


def hardware_class_hash(spec: HardwareClassSpec) -> str:
    """16 hex digits over the fields of a class that a measurement depends on."""
    content = spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=_NOT_MEASURED)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
