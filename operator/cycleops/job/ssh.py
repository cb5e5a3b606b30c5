"""Makes the key pair with which a job's launcher reaches its workers."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cycleops.job.observation import SshKeys


def new_keys() -> SshKeys:
    """A fresh Ed25519 pair. Randomness is input like any other: gather asks for it, never a policy."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return SshKeys(private=private.decode(), public=public.decode() + "\n")
