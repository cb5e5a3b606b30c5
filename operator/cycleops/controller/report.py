"""Where pods report: POST /v1/report over HTTPS, answered 200 only when the report is stored.

Who reports is proved by the pod's own service account token, made out to our audience: a TokenReview names the pod it
is bound to, and that pod must exist, carry the label of the CycleJob or CycleService it speaks for, and be controlled
by a Job which that object controls.
"""

import asyncio
import json
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from pydantic import ValidationError

from cycle_wire.reports import AUDIENCE, ProgressReport, Report
from cycleops.controller import metrics
from cycleops.controller.inbox import Inbox
from cycleops.controller.kinds import CYCLE_JOB, CYCLE_SERVICE, JOB_LABEL, POD, SERVICE_LABEL, TOKEN_REVIEW
from cycleops.controller.kube import ApiError, Kube
from cycleops.controller.queue import Key
from cycleops.controller.store import Store, controller_uid

logger = logging.getLogger(__name__)

MAXIMUM_BYTES = 2 * 1024 * 1024
STORED_TIMEOUT_SECONDS = 20.0
PROGRESS_SECONDS = 30.0
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"
_USER = "system:serviceaccount:"
# Whose pods report, and their label.
_OWNERS = {CYCLE_JOB.kind: (CYCLE_JOB, JOB_LABEL), CYCLE_SERVICE.kind: (CYCLE_SERVICE, SERVICE_LABEL)}


@dataclass(frozen=True, slots=True)
class Sender:
    """The pod that a token is bound to."""

    namespace: str
    pod: str
    pod_uid: str


class _RefusedError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class ReportServer:
    """``accepting`` says whether this replica leads, has filled its caches and isn't draining."""

    def __init__(
        self,
        *,
        kube: Kube,
        store: Store,
        inbox: Inbox,
        enqueue: Callable[[Key, float], None],
        accepting: Callable[[], bool],
    ) -> None:
        self._kube = kube
        self._store = store
        self._inbox = inbox
        self._enqueue = enqueue
        self._accepting = accepting
        self._runner: web.AppRunner | None = None

    async def start(self, *, port: int, tls: ssl.SSLContext) -> None:
        app = web.Application(client_max_size=MAXIMUM_BYTES)
        app.router.add_post("/v1/report", self._receive)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=5.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, port=port, ssl_context=tls).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        kind = "unread"
        try:
            if not self._accepting():
                raise _RefusedError(503, "this replica takes no reports now, try again")
            sender = await self._authenticate(request)
            report = _parse(await request.read())
            kind = report.message.kind
            await self._authorize(sender, report)
            await self._store_report(sender, report)
            code, message = 200, "stored"
        except _RefusedError as refusal:
            code, message = refusal.code, str(refusal)
            logger.info("report (%s) from %s answered %d: %s", kind, request.remote, code, message)
        except ApiError as error:
            code, message = 503, f"the API server can't be asked now: {error}"
            logger.warning("report (%s) answered 503: %s", kind, error)
        metrics.REPORTS.labels(message=kind, code=str(code)).inc()
        return web.json_response({"message": message}, status=code)

    async def _authenticate(self, request: web.Request) -> Sender:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            raise _RefusedError(401, "send the pod's token as Authorization: Bearer")
        review = {
            "apiVersion": TOKEN_REVIEW.api_version,
            "kind": TOKEN_REVIEW.kind,
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        status = (await self._kube.create(kind=TOKEN_REVIEW, body=review)).get("status", {})
        if not status.get("authenticated") or AUDIENCE not in status.get("audiences", []):
            raise _RefusedError(401, f"the token is not valid for audience {AUDIENCE}")
        user = status.get("user", {})
        extra = user.get("extra", {})
        names, uids = extra.get(_POD_NAME), extra.get(_POD_UID)
        if not names or not uids or not user.get("username", "").startswith(_USER):
            raise _RefusedError(403, "the token is not bound to a pod")
        return Sender(namespace=user["username"].removeprefix(_USER).split(":")[0], pod=names[0], pod_uid=uids[0])

    async def _authorize(self, sender: Sender, report: Report) -> None:
        job = report.job
        kind, label = _OWNERS[job.kind]
        if (sender.namespace, sender.pod) != (job.namespace, report.pod):
            raise _RefusedError(403, f"the token belongs to pod {sender.namespace}/{sender.pod}")
        owner = self._store.get(kind, namespace=job.namespace, name=job.name)
        if owner is None or owner.uid != job.uid:
            raise _RefusedError(403, f"there is no {kind.kind} {job.namespace}/{job.name} with uid {job.uid}")
        pod = await self._kube.find(kind=POD, name=sender.pod, namespace=sender.namespace)
        if pod is None or pod["metadata"]["uid"] != sender.pod_uid:
            raise _RefusedError(403, "the token's pod is gone")
        parents = {facts.uid for facts in self._store.children(job.uid).values()}
        if pod["metadata"].get("labels", {}).get(label) != job.name or controller_uid(pod) not in parents:
            raise _RefusedError(403, f"pod {sender.pod} is not of {kind.kind} {job.name}")

    async def _store_report(self, sender: Sender, report: Report) -> None:
        if self._inbox.was_stored(pod_uid=sender.pod_uid, sequence=report.sequence):
            return
        kind, _ = _OWNERS[report.job.kind]
        key = Key.of(kind, namespace=report.job.namespace, name=report.job.name)
        message = report.message
        stored = self._inbox.offer(
            key, pod=sender.pod, pod_uid=sender.pod_uid, sequence=report.sequence, message=message
        )
        if isinstance(message, ProgressReport) and message.step < message.total_steps:
            # Progress may be lost: it reaches the status with the next pass that finds it due.
            self._enqueue(key, self._inbox.progress_due_seconds(key, every_seconds=PROGRESS_SECONDS))
            return
        self._enqueue(key, 0.0)
        try:
            kept = await asyncio.wait_for(asyncio.shield(stored), timeout=STORED_TIMEOUT_SECONDS)
        except TimeoutError:
            raise _RefusedError(503, "not stored in time, send it again") from None
        if not kept:
            raise _RefusedError(403, f"{kind.kind} {report.job.name} is gone")


def _parse(body: bytes) -> Report:
    try:
        return Report.model_validate_json(body)
    except ValidationError as error:
        problems = json.loads(error.json(include_url=False, include_input=False, include_context=False))
        text = "; ".join(f"{'.'.join(str(p) for p in problem['loc'])}: {problem['msg']}" for problem in problems[:5])
        raise _RefusedError(422, text) from None
