"""A certificate and API keys for a balancer under test."""

import datetime as dt
import hashlib
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cycleops.service.haproxy_door import Door

KEYS = {"correct-horse": "team-a", "battery-staple": "team-b"}


def write_door(folder: Path, *, tls: bool, keys: bool) -> Door:
    """The files as the pod has them: certificate, private key beside it, map of the keys' hashes."""
    certificate, table = folder / "tls.pem", folder / "keys.map"
    if tls:
        _write_certificate(certificate)
    if keys:
        lines = [f"{hashlib.sha256(key.encode()).hexdigest()} {tenant}\n" for key, tenant in KEYS.items()]
        table.write_text("".join(lines))
    return Door(certificate_file=str(certificate) if tls else "", keys_file=str(table) if keys else "")


def _write_certificate(file: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "balancer under test")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    file.write_bytes(made.public_bytes(encoding))
    plain = serialization.NoEncryption()
    Path(f"{file}.key").write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))
