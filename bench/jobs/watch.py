"""Creates jobs and watches for their children, in one asyncio process. Times are of this process' clock, in seconds."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import aiohttp

from bench.jobs.subjects import Subject


class Watcher:
    """Knows when the last child of each job appeared."""

    def __init__(self, session: aiohttp.ClientSession, subject: Subject) -> None:
        self._session = session
        self._subject = subject
        self._seen: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        self._complete: dict[str, float] = {}
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for plural, path, _ in self._subject.children:
            listed = await (await self._session.get(f"/{path}/{plural}", params={"limit": "1"})).json()
            version = listed["metadata"]["resourceVersion"]
            self._tasks.append(asyncio.create_task(self._watch(plural, f"/{path}/{plural}", version)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def create(self, namespace: str, name: str, *, suspend: bool = False) -> tuple[str, float]:
        """(uid, when the request was sent)."""
        path = "/" + self._subject.path.format(namespace=namespace)
        began = time.monotonic()
        async with self._session.post(path, json=self._subject.body(name, suspend=suspend)) as answer:
            body = await answer.json()
            if answer.status != 201:
                raise SystemExit(f"{name} was refused: {body.get('message')}")
        return body["metadata"]["uid"], began

    async def complete(self, uids: Sequence[str], *, timeout_seconds: float) -> list[float]:
        """When the last child of each of them appeared. Raises TimeoutError."""
        async with asyncio.timeout(timeout_seconds):
            while any(uid not in self._complete for uid in uids):
                self._raise_failures()
                self._changed.clear()
                await self._changed.wait()
        return [self._complete[uid] for uid in uids]

    def _raise_failures(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()

    async def _watch(self, plural: str, path: str, version: str) -> None:
        params = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "3000"}
        async with self._session.get(path, params=params) as stream:
            async for line in stream.content:
                self._take(plural, json.loads(line))

    def _take(self, plural: str, event: dict[str, object]) -> None:
        now = time.monotonic()
        body = event["object"]
        if event["type"] != "ADDED" or not isinstance(body, dict):
            return
        for reference in body["metadata"].get("ownerReferences", []):
            uid = reference["uid"]
            self._seen[uid].add((plural, body["metadata"]["name"]))
            if len(self._seen[uid]) == self._subject.expected:
                self._complete.setdefault(uid, now)
                self._changed.set()
