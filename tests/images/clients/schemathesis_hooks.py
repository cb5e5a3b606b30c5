"""Makes the good requests good in what a JSON schema can't say. The bad ones stay as they are made."""

import math
from typing import Any

import schemathesis
from schemathesis import Case, GenerationMode, HookContext

DEADLINE = "X-Cycle-Deadline-Ms"


@schemathesis.hook
def before_call(_context: HookContext, case: Case, _kwargs: dict[str, Any]) -> None:
    if case.headers and _is_deadline(case.headers.get(DEADLINE)):
        del case.headers[DEADLINE]  # else nearly everything is answered with 503: it can't be in time
    if case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
        _make_consistent(case.body)


def _is_deadline(value: str | None) -> bool:
    try:
        return value is not None and 0 <= float(value) < math.inf
    except ValueError:
        return False


def _make_consistent(body: dict[str, Any]) -> None:
    for tensor in body.get("inputs", []):
        tensor["shape"] = [len(tensor["data"])]
    if "outputs" in body:
        body["outputs"] = list({output["name"]: output for output in body["outputs"]}.values())
