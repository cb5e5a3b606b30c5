"""The few requests that the supervisor makes to its API server, with the standard library only."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

from tests.cluster.pki import Authority, Pair

TIMEOUT_SECONDS = 5
Object = dict[str, Any]


class ApiClient:
    """JSON requests with a client certificate. Raises urllib.error.URLError (HTTPError for a status >= 400)."""

    def __init__(self, *, server: str, authority: Authority, pair: Pair) -> None:
        context = ssl.create_default_context(cafile=str(authority.pair.certificate))
        context.load_cert_chain(pair.certificate, pair.key)
        self._server = server
        # No proxy of the environment stands between this host and its own cluster.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def request(self, method: str, path: str, body: Object | None = None) -> str:
        """The response's text."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._server + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            text: bytes = response.read()
            return text.decode()

    def get(self, path: str) -> Object:
        """One object or list."""
        result: Object = json.loads(self.request("GET", path))
        return result

    def create(self, path: str, body: Object) -> bool:
        """POST an object; False when it exists already."""
        try:
            self.request("POST", path, body)
        except urllib.error.HTTPError as error:
            if error.code == 409:
                return False
            raise
        return True

    def is_ready(self) -> bool:
        """Whether /readyz says ok; False while nothing answers."""
        try:
            return self.request("GET", "/readyz") == "ok"
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
