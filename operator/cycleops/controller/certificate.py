"""Keeps the report server's certificate in its Secret, and the authority where the job cycle finds it."""

import base64
import datetime as dt
import logging
import os
import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cycleops.controller.kinds import MANAGED_BY_LABEL, MANAGER, SECRET
from cycleops.controller.kube import AlreadyExistsError, Kube
from cycleops.controller.settings import REPORT_SECRET
from cycleops.controller.tls import Identity, new_identity

logger = logging.getLogger(__name__)


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _identity(secret: dict[str, Any]) -> Identity:
    texts = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
    return Identity(authority=texts["ca.crt"], certificate=texts["tls.crt"], key=texts["tls.key"])


class Certificate:
    """``context`` serves it; ``authority`` is what senders trust, PEM: the newest first, then the one before."""

    def __init__(self, *, kube: Kube, namespace: str, hosts: Sequence[str]) -> None:
        self._kube = kube
        self._namespace = namespace
        self._hosts = hosts
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority = ""

    async def load(self) -> bool:
        """Read the Secret, make or renew it if need be, serve it. Returns whether the authority changed."""
        secret = await self._kube.find(kind=SECRET, name=REPORT_SECRET, namespace=self._namespace)
        now = dt.datetime.now(dt.UTC)
        if secret is None:
            identity = new_identity(hosts=self._hosts, now=now)
            try:
                await self._kube.create(kind=SECRET, namespace=self._namespace, body=self._secret(identity))
                logger.info("made a certificate for the report server")
            except AlreadyExistsError:  # another replica was quicker
                return await self.load()
        elif (old := _identity(secret)).usable(hosts=self._hosts, now=now):
            identity = old
        else:
            new = new_identity(hosts=self._hosts, now=now)
            before = old.authority[: old.authority.find("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n"
            identity = Identity(authority=new.authority + before, certificate=new.certificate, key=new.key)
            body = {"metadata": {"uid": secret["metadata"]["uid"]}, "data": self._secret(identity)["data"]}
            await self._kube.merge(kind=SECRET, name=REPORT_SECRET, namespace=self._namespace, body=body)
            logger.info("renewed the report server's certificate")
        self._serve(identity)
        changed, self.authority = identity.authority != self.authority, identity.authority
        return changed

    def _serve(self, identity: Identity) -> None:
        # The ssl module only loads from files; this one is readable by us alone and gone at once.
        descriptor, path = tempfile.mkstemp()
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(identity.certificate + identity.key)
            self.context.load_cert_chain(path)
        finally:
            Path(path).unlink()

    def _secret(self, identity: Identity) -> dict[str, Any]:
        data = {"ca.crt": identity.authority, "tls.crt": identity.certificate, "tls.key": identity.key}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": REPORT_SECRET, "namespace": self._namespace, "labels": {MANAGED_BY_LABEL: MANAGER}},
            "type": "kubernetes.io/tls",
            "data": {name: _encode(text) for name, text in data.items()},
        }
