"""Makes the key pairs with which a job's launcher reaches its workers."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cycleops.job.observation import SshKeys


def new_keys() -> SshKeys:
    """Fresh Ed25519 keys. Randomness is input like any other: gather asks for it, never a policy."""
    client, client_public = _pair()
    host, host_public = _pair()
    return SshKeys(client_private=client, client_public=client_public, host_private=host, host_public=host_public)


def _pair() -> tuple[str, str]:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), public.decode() + "\n"
