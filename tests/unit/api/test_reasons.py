"""What pods report as reason stands in the reference too: images can't import the operator's reasons."""

import re
from pathlib import Path

import pytest

from cycleops.api.reasons import CandidateReason, Reason, ScalingReason
from cycleops.planner.adaptation import Reason as AdaptReason
from cycleops.planner.result import Obstacle, RejectReason

ROOT = Path(__file__).parents[3]
SOURCES = sorted(path for image in ("trainer_image", "server_image") for path in (ROOT / image).rglob("*.py"))
REPORTED = re.compile(r"""(?:BadInputError\(\s*|\breason(?::\s*str)?\s*=\s*)"([A-Z][A-Za-z0-9]*)\"""")
FOUND = sorted({reason for path in SOURCES for reason in REPORTED.findall(path.read_text())})


def test_the_search_finds_what_images_report() -> None:
    assert {"BadData", "WorldMismatch"} <= set(FOUND)


@pytest.mark.parametrize("reason", FOUND)
def test_reported_reason_is_documented(reason: str) -> None:
    assert reason in set(Reason)


def test_planner_and_api_have_the_same_words() -> None:
    assert {reason.value for reason in CandidateReason} == {reason.value for reason in RejectReason}
    assert {reason.value for reason in ScalingReason} == {reason.value for reason in AdaptReason}
    assert {obstacle.value for obstacle in Obstacle} <= {reason.value for reason in Reason}
