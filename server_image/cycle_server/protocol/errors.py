"""What is wrong with a request, in words that every protocol gives to its client."""

from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_core import to_json


class ProtocolError(ValueError):
    """A request that can't be answered as it is; ``field`` names what to mend, such as ``inputs[0].shape``.

    ``status`` is HTTP's: 400, 404, 413.
    """

    def __init__(self, message: str, *, field: str = "", status: int = 400) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.status = status

    def body(self) -> bytes:
        return to_json({"error": str(self), **({"field": self.field} if self.field else {})})


def invalid(error: ValidationError) -> ProtocolError:
    """The first thing that is wrong."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return ProtocolError(first["msg"], field=field_path(first["loc"]))


def field_path(location: Sequence[str | int]) -> str:
    """('inputs', 0, 'shape') -> 'inputs[0].shape'; what isn't in any field is the body."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".") or "body"
