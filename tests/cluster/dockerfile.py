"""What a Dockerfile takes from its build context, so that an image's tag can say what is in it."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.paths import ClusterError, content_hash

IGNORE_FILE = ".dockerignore"


def content_tag(*, dockerfile: Path, context: Path, parent: str, extra: tuple[str, ...] = ()) -> str:
    """A tag from the Dockerfile, every context file that it copies (path, mode, content) and the parent's tag."""
    text = dockerfile.read_text()
    parts: list[bytes | str] = [text, parent, *extra]
    for path in copied_files(text, context=context):
        executable = "x" if path.stat().st_mode & 0o111 else "-"
        parts += [str(path.relative_to(context)), executable, path.read_bytes()]
    return content_hash(parts)[:12]


def copied_files(text: str, *, context: Path) -> list[Path]:
    """The files that COPY and ADD take from the context, less what the ignore file leaves out, sorted."""
    ignored = _ignore_patterns(context)
    found: set[Path] = set()
    for source in _copy_sources(text):
        matches = [context] if source in {".", "./"} else sorted(context.glob(source.strip("/").removeprefix("./")))
        if not matches:
            raise ClusterError(f"a Dockerfile copies {source}, which is not in {context}")
        for match in matches:
            candidates = [match] if match.is_file() else (path for path in match.rglob("*") if path.is_file())
            found.update(path for path in candidates if not _is_ignored(path.relative_to(context), ignored))
    return sorted(found)


def _copy_sources(text: str) -> Iterator[str]:
    """Source patterns of every COPY and ADD that reads the context (not another stage, not a URL)."""
    joined = re.sub(r"\\\n(?:\s*#.*\n)*", " ", text)
    for line in joined.splitlines():
        instruction = re.match(r"\s*(?:COPY|ADD)\s+(.*)", line, re.IGNORECASE)
        if not instruction:
            continue
        rest = instruction[1].strip()
        flags = re.match(r"(?:--\S+\s+)*", rest)
        options = flags[0] if flags else ""
        if "--from=" in options:
            continue
        arguments = rest[len(options) :]
        words = json.loads(arguments) if arguments.startswith("[") else shlex.split(arguments)
        for source in words[:-1]:
            if "$" in source:
                raise ClusterError(f"a variable in a COPY source cannot be followed: {line.strip()}")
            if not re.match(r"https?://", source):
                yield source


def _ignore_patterns(context: Path) -> list[str]:
    path = context / IGNORE_FILE
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.strip().rstrip("/") for line in lines if line.strip() and not line.startswith("#")]


def _is_ignored(path: Path, patterns: list[str]) -> bool:
    """Whether a path (relative to the context) or a folder above it matches: `NAME`, `a/b` or `**/NAME`."""
    for depth in range(1, len(path.parts) + 1):
        prefix = "/".join(path.parts[:depth])
        for pattern in patterns:
            anywhere = pattern.removeprefix("**/")
            target = path.parts[depth - 1] if pattern.startswith("**/") else prefix
            if fnmatch.fnmatchcase(target, anywhere):
                return True
    return False
