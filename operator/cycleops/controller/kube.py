"""A small asynchronous Kubernetes client: the verbs the operator uses, with typed errors.

Our own because the reconcile path must be asynchronous and quick, and because server-side apply, preconditions and
status merge patches are all it needs. Where to connect and how to authenticate comes from the official library's
loader: in-cluster (whose token is read again when it rotates) or kubeconfig.
"""

import json
import os
import ssl
from collections.abc import AsyncIterator
from typing import Any, Self

import aiohttp
from kubernetes import client as official
from kubernetes import config as loader

from cycleops.controller.kinds import FIELD_MANAGER, JOB, Kind

Body = dict[str, Any]
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PAGE_SIZE = 500
CONNECTIONS = 32  # more only make the API server's answers wait for each other


class ApiError(Exception):
    """The API server refused, or could not be reached (``code`` 0)."""

    def __init__(self, *, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code, self.reason, self.message = code, reason, message


class NotFoundError(ApiError):
    """404."""


class ConflictError(ApiError):
    """409: a precondition (uid, resourceVersion) does not hold."""


class AlreadyExistsError(ConflictError):
    """409 on create: the name is taken."""


class ForbiddenError(ApiError):
    """401 or 403: the operator lacks a right."""


class InvalidError(ApiError):
    """422: the API server finds the object itself wrong; trying the same again does not help."""


def _error(code: int, text: str) -> ApiError:
    try:
        status = json.loads(text)
        reason, message = str(status.get("reason", "")), str(status.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = "", text[:500]
    kinds: dict[int, type[ApiError]] = {404: NotFoundError, 409: ConflictError, 422: InvalidError}
    kinds |= {401: ForbiddenError, 403: ForbiddenError}
    kind = AlreadyExistsError if reason == "AlreadyExists" else kinds.get(code, ApiError)
    return kind(code=code, reason=reason, message=message)


class Kube:
    """One connection pool to one API server. Every method raises :class:`ApiError` or one of its kinds."""

    def __init__(self, *, settings: "official.Configuration", timeout_seconds: float = 30.0) -> None:
        self._settings = settings
        self._base = settings.host.rstrip("/")
        self._ssl = self._tls()
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=10.0)
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_environment(cls, *, timeout_seconds: float = 30.0) -> Self:
        """Connect as the environment says: KUBECONFIG, ~/.kube/config or the pod's service account."""
        settings = official.Configuration()
        if "KUBECONFIG" not in os.environ and loader.incluster_config.SERVICE_HOST_ENV_NAME in os.environ:
            loader.load_incluster_config(client_configuration=settings)
        else:
            loader.load_kube_config(client_configuration=settings)
        return cls(settings=settings, timeout_seconds=timeout_seconds)

    def _tls(self) -> ssl.SSLContext | bool:
        if not self._base.startswith("https"):
            return False
        context = ssl.create_default_context(cafile=self._settings.ssl_ca_cert)
        if not self._settings.verify_ssl:  # only a kubeconfig that says insecure-skip-tls-verify
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self._settings.cert_file:
            context.load_cert_chain(self._settings.cert_file, self._settings.key_file)
        return context

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=self._ssl, keepalive_timeout=60.0)
        self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    def _headers(self, content_type: str | None, accept: str) -> dict[str, str]:
        headers = {"Accept": accept, "User-Agent": "cycleops-operator"}
        # Asking each time runs the loader's hook, which reads a rotated token again.
        token = self._settings.auth_settings().get("BearerToken")
        if token is not None:
            headers["Authorization"] = token["value"]
        if content_type is not None:
            headers["Content-Type"] = content_type
        return headers

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: Body | None = None,
        content_type: str = "application/json",
        params: dict[str, str] | None = None,
        accept: str = "application/json",
    ) -> tuple[int, Body]:
        if self._session is None:
            raise RuntimeError("use the client as an async context manager")
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = self._headers(content_type if body is not None else None, accept)
        try:
            async with self._session.request(
                method, self._base + path, data=data, headers=headers, params=params
            ) as response:
                text = await response.text()
        except (TimeoutError, aiohttp.ClientError) as error:
            raise ApiError(code=0, reason="Unreachable", message=f"{method} {path}: {error!r}") from error
        if response.status >= 400:
            raise _error(response.status, text)
        result: Body = json.loads(text)
        return response.status, result

    async def get(self, *, kind: Kind, name: str, namespace: str | None = None) -> Body:
        return (await self._request("GET", kind.path(namespace=namespace, name=name)))[1]

    async def find(self, *, kind: Kind, name: str, namespace: str | None = None) -> Body | None:
        """Like :meth:`get`, None when there is none."""
        try:
            return await self.get(kind=kind, name=name, namespace=namespace)
        except NotFoundError:
            return None

    async def find_metadata(self, *, kind: Kind, name: str, namespace: str) -> Body | None:
        """The object's ``metadata`` alone: what a Secret holds never leaves the API server. None when there is none."""
        try:
            path = kind.path(namespace=namespace, name=name)
            result: Body = (await self._request("GET", path, accept=METADATA))[1]["metadata"]
        except NotFoundError:
            return None
        return result

    async def pages(
        self, *, kind: Kind, namespace: str | None = None, selector: str | None = None
    ) -> AsyncIterator[tuple[str, list[Body]]]:
        """Pages of (the list's resourceVersion, objects)."""
        params = {"limit": str(PAGE_SIZE)} | ({"labelSelector": selector} if selector else {})
        while True:
            page = (await self._request("GET", kind.path(namespace=namespace), params=params))[1]
            yield page["metadata"]["resourceVersion"], page["items"]
            following = page["metadata"].get("continue")
            if not following:
                return
            params["continue"] = following

    async def create(self, *, kind: Kind, body: Body, namespace: str | None = None) -> Body:
        """Raises :class:`AlreadyExistsError` when the name is taken."""
        path = kind.path(namespace=namespace)
        return (await self._request("POST", path, body=body, params={"fieldManager": FIELD_MANAGER}))[1]

    async def apply(
        self, *, kind: Kind, body: Body, namespace: str | None = None, subresource: str | None = None
    ) -> tuple[bool, Body]:
        """Server-side apply, forced. A ``metadata.uid`` in the body is a precondition. Returns (created, object)."""
        path = kind.path(namespace=namespace, name=body["metadata"]["name"], subresource=subresource)
        params = {"fieldManager": FIELD_MANAGER, "force": "true"}
        code, result = await self._request("PATCH", path, body=body, content_type=APPLY, params=params)
        return code == 201, result

    async def merge(
        self, *, kind: Kind, name: str, body: Body, namespace: str | None = None, subresource: str | None = None
    ) -> Body:
        """Merge patch; None removes a field. A ``metadata.uid`` in the body is a precondition."""
        path = kind.path(namespace=namespace, name=name, subresource=subresource)
        params = {"fieldManager": FIELD_MANAGER}
        return (await self._request("PATCH", path, body=body, content_type=MERGE, params=params))[1]

    async def delete(self, *, kind: Kind, name: str, uid: str, namespace: str | None = None) -> None:
        """Delete that very object. An object that is gone already is no error.

        A Job goes after its pods: the next one of its name has pods of the same host names, which must not be two.
        """
        policy = "Foreground" if kind is JOB else "Background"
        body = {"preconditions": {"uid": uid}, "propagationPolicy": policy}
        try:
            await self._request("DELETE", kind.path(namespace=namespace, name=name), body=body)
        except NotFoundError:
            return
