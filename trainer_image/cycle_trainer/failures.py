"""Giving up: bad input that another try can't mend, and how a process says why it ended."""

import errno
import logging
import os
from pathlib import Path

from cycle_wire.reports import FailureReport
from cycle_wire.sender import DeliveryError, Sender

logger = logging.getLogger(__name__)

TERMINATION_LOG_VARIABLE = "CYCLEOPS_TERMINATION_LOG"
TERMINATION_LOG = "/dev/termination-log"
MAXIMUM_MESSAGE = 2000
VOLUMES = "/mnt/pvc/"


class BadInputError(Exception):
    """Something in the spec, the data or the model is wrong. ``field`` is the spec field to mend."""

    def __init__(self, reason: str, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message if len(message) <= MAXIMUM_MESSAGE else message[: MAXIMUM_MESSAGE - 3] + "..."
        self.field = field

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}" + (f" ({self.field})" if self.field else "")

    def report(self) -> FailureReport:
        return FailureReport(reason=self.reason, message=self.message, field=self.field)


def uri_of(path: Path) -> str:
    """How the spec names a file in the container: volumes stand at /mnt/pvc/CLAIM."""
    text = str(path)
    return f"pvc://{text.removeprefix(VOLUMES)}" if text.startswith(VOLUMES) else text


FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_IN_SAFETENSORS = tuple(f"(os error {number})" for number in FULL)  # its own error says so


def no_space_left(error: Exception, *, output_uri: str) -> FailureReport | None:
    """What to say when the output claim is full; None for any other error.

    Not a BadInputError: room can be made, and the next attempt goes on from the newest checkpoint.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number not in FULL and not any(code in str(error) for code in _FULL_IN_SAFETENSORS):
        return None
    message = f"{output_uri} has no space left ({error}); what was saved before stays. Free space or enlarge the claim"
    return FailureReport(reason="NoSpaceLeft", message=message[:MAXIMUM_MESSAGE], field="spec.output.uri")


def write_termination_message(message: str) -> None:
    """Leave the message where the kubelet takes a container's last words from; outside a pod there is no such file."""
    path = Path(os.environ.get(TERMINATION_LOG_VARIABLE, TERMINATION_LOG))
    try:
        path.write_text(message[:4000], encoding="utf-8")
    except OSError as error:
        logger.debug("no termination message: %s", error)


def report_failure(sender: Sender, failure: FailureReport) -> None:
    """Deliver it if at all possible; the exit code and the termination message say the same."""
    sender.post(failure)
    try:
        sender.flush()
    except DeliveryError as error:
        logger.error("the failure could not be reported: %s", error)
