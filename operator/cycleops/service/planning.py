"""Asks the planner: outside the event loop, once per set of inputs, one plan at a time."""

import asyncio
import dataclasses
import hashlib
import json
from collections.abc import Mapping

from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.api.hardwareclass import HardwareClassSpec
from cycleops.planner.adaptation import Attainment
from cycleops.planner.planning import Planner
from cycleops.service.corrections import AS_PROFILED, Corrections
from cycleops.service.evidence import Evidence
from cycleops.service.observation import Outcome, Served
from cycleops.service.question import ask, table_of
from cycleops.service.translate import outcome_of

# Of the spec, what a plan depends on.
_PLANNED = {"budget", "traffic", "hardware", "replicas", "headroom", "planning", "load_balancing"}


class Planning:
    """Remembers the last answer of each service, so that a pass without news plans nothing."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, bool], tuple[str, asyncio.Task[Outcome]]] = {}
        self._tables: dict[str, tuple[str, asyncio.Task[Attainment | None]]] = {}
        self._planner = Planner()
        self._one_at_a_time = asyncio.Semaphore(1)  # planning is computation: more at once would only be slower

    async def outcome(
        self,
        uid: str,
        *,
        spec: CycleServiceSpec,
        evidence: Evidence,
        classes: Mapping[str, HardwareClassSpec],
        requests_per_second: float,
        corrections: Corrections = AS_PROFILED,
    ) -> Outcome:
        """The plan for ``requests_per_second``. A pass that is cut off finds the answer when it comes again."""
        inputs = inputs_hash(
            spec=spec,
            evidence=evidence,
            classes=classes,
            requests_per_second=requests_per_second,
            corrections=corrections,
        )
        place = (uid, corrections.hit_ratio_lower > 0)  # with warm and with cold caches
        known = self._answers.get(place)
        if known is None or known[0] != inputs or known[1].cancelled():
            task = asyncio.create_task(self._plan(spec, evidence, classes, requests_per_second, corrections))
            known = self._answers[place] = (inputs, task)
        try:
            return await asyncio.shield(known[1])
        except Exception:
            self._answers.pop(place, None)  # the queue tries again
            raise

    async def table(
        self,
        uid: str,
        *,
        spec: CycleServiceSpec,
        evidence: Evidence,
        classes: Mapping[str, HardwareClassSpec],
        served: Served,
        tokens: tuple[int, int] | None = None,
    ) -> Attainment | None:
        """What each number of replicas of ``served`` does: simulated when that changes. None without its profile."""
        inputs = _table_hash(spec=spec, classes=classes, served=served, tokens=tokens)
        known = self._tables.get(uid)
        if known is None or known[0] != inputs or known[1].cancelled():
            task = asyncio.create_task(self._tabulate(spec, evidence, classes, served, tokens))
            known = self._tables[uid] = (inputs, task)
        try:
            return await asyncio.shield(known[1])
        except Exception:
            self._tables.pop(uid, None)
            raise

    def keep_only(self, uids: set[str]) -> None:
        """Forget services that are gone."""
        for place in [place for place in self._answers if place[0] not in uids]:
            self._answers.pop(place)[1].cancel()
        for uid in self._tables.keys() - uids:
            self._tables.pop(uid)[1].cancel()

    async def _plan(
        self,
        spec: CycleServiceSpec,
        evidence: Evidence,
        classes: Mapping[str, HardwareClassSpec],
        requests_per_second: float,
        corrections: Corrections,
    ) -> Outcome:
        async with self._one_at_a_time:
            result = await asyncio.to_thread(
                ask,
                spec=spec,
                evidence=evidence,
                classes=classes,
                requests_per_second=requests_per_second,
                corrections=corrections,
                planner=self._planner,
            )
        return outcome_of(result, spec=spec, evidence=evidence, requests_per_second=requests_per_second)

    async def _tabulate(
        self,
        spec: CycleServiceSpec,
        evidence: Evidence,
        classes: Mapping[str, HardwareClassSpec],
        served: Served,
        tokens: tuple[int, int] | None,
    ) -> Attainment | None:
        async with self._one_at_a_time:
            return await asyncio.to_thread(
                table_of, spec=spec, evidence=evidence, classes=classes, served=served, tokens=tokens
            )


def inputs_hash(
    *,
    spec: CycleServiceSpec,
    evidence: Evidence,
    classes: Mapping[str, HardwareClassSpec],
    requests_per_second: float,
    corrections: Corrections = AS_PROFILED,
) -> str:
    """Of everything that a plan depends on. Profiles never change, so their names say enough."""
    model = evidence.model
    content = {
        "spec": spec.model_dump(mode="json", include=_PLANNED),
        "model": model.digest if model is not None else "",
        "profiles": [(profile.metadata.name, profile.metadata.uid) for profile in evidence.profiles],
        "classes": {name: hardware.model_dump(mode="json") for name, hardware in classes.items()},
        "rate": requests_per_second,
        "corrections": corrections.inputs(),
    }
    return _hash(content)


def _table_hash(
    *,
    spec: CycleServiceSpec,
    classes: Mapping[str, HardwareClassSpec],
    served: Served,
    tokens: tuple[int, int] | None,
) -> str:
    declared, hardware = spec.traffic.input_tokens, classes.get(served.hardware)
    return _hash(
        {
            "served": dataclasses.asdict(served),
            "tokens": tokens or (declared.model_dump(mode="json") if declared else None),
            "maximum": spec.replicas.maximum,
            "algorithm": spec.load_balancing.algorithm,
            "class": hardware.model_dump(mode="json") if hardware else None,
        }
    )


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
