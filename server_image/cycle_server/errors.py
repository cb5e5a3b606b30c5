"""What can be wrong with what the server image is given."""


class BadInputError(ValueError):
    """Trying again can't help: the process reports it and exits with cycle_wire.reports.EXIT_BAD_INPUT.

    ``reason`` is a PascalCase constant; ``field`` is the spec field to mend, where one is known.
    """

    def __init__(self, message: str, *, reason: str = "BadInput", field: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field


class BadVariantError(BadInputError):
    """A variant's folder is incomplete or contradicts its manifest."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="BadVariant")
