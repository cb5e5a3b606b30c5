"""Deterministic names of a CycleJob's children. Pure."""

import hashlib

from cycle_wire.profile import Profile

_MAXIMUM_LENGTH = 63  # a Job's name becomes a label and part of its pods' host names


def workers_service(job: str) -> str:
    return f"{job}-workers"


def worker_job(job: str) -> str:
    return f"{job}-worker"


def worker_hosts(job: str, *, replicas: int) -> list[str]:
    """DNS names of the workers, by index; the pods' search domains complete them."""
    return [f"{worker_job(job)}-{index}.{workers_service(job)}" for index in range(replicas)]


def launcher_job(job: str) -> str:
    return f"{job}-launcher"


def ssh_secret(job: str) -> str:
    return f"{job}-ssh"


def config_map(job: str) -> str:
    return f"{job}-config"


def compress(job: str) -> str:
    """Of the Job and of its ConfigMap."""
    return f"{job}-compress"


def profile(job: str, *, hardware_class: str) -> str:
    """Of the Job and of its ConfigMap; two long names are told apart by a hash."""
    name = f"{job}-profile-{hardware_class}"
    return name if len(name) <= _MAXIMUM_LENGTH else f"{name[: _MAXIMUM_LENGTH - 9].rstrip('-')}-{_short_hash(name)}"


def cycle_profile(job: str, measured: Profile) -> str:
    """Of the CycleProfile: the same measurement conditions give the same name."""
    conditions = (
        *(measured.model_digest, measured.variant, measured.hardware_class, measured.hardware_class_hash),
        *(measured.image, measured.server_settings_hash),
    )
    return f"{job}-{measured.variant}-{measured.hardware_class}-{_short_hash('|'.join(conditions))}"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
