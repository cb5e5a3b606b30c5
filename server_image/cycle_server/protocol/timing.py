"""The Server-Timing header (www.w3.org/TR/server-timing): each hop appends its terms, durations in milliseconds."""

from collections.abc import Mapping

HEADER = "Server-Timing"
TERMS = ("queue", "pre", "compute", "post")


def format_timing(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{name};dur={value * 1000:.3f}" for name, value in seconds.items())


def parse_timing(header: str) -> dict[str, float]:
    """Seconds by name; entries without a duration are left out, and unreadable ones too (the header is advice)."""
    terms: dict[str, float] = {}
    for entry in header.split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            number = value.strip('"')
            if key == "dur" and number.replace(".", "", 1).isdigit():
                terms[name] = float(number) / 1000
    return terms
