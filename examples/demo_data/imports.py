"""Writes the data and the model's folder of the example that recommends.

    DATA/imports/train.jsonl        {"items": ["math", "torch", "torch.nn"]}, what a Python file imports, a file a line
    DATA/imports/evaluation.jsonl   {"items": ["math", "torch"], "heldOut": ["torch.nn"]}
    MODELS/imports-bert/            an encoder of 2 layers: a configuration, no weights

The files are those of packages that the images have anyway, pinned with them. To recommend a library from those that
a program uses already is a known task (Thung, Lo and Lawall 2013: Automated library recommendation). An item is the
module that an import statement names, relative ones made absolute. Items that fewer than RAREST files import are left
out, and files that import fewer than SMALLEST of the others; of files with the same imports one stays. A set goes to
the evaluation file when the first 64 bits of the SHA-256 of its items are divisible by EVALUATION_SHARE; a fifth of its
items, at least one, is held out: those of least hash together with the set. Both files are sorted by hash.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from examples.demo_data.prepare import lines_of, write

PACKAGES = ("aiohttp", "huggingface_hub", "networkx", "numpy", "pydantic", "scipy", "sklearn", "sympy", "torch")
# A line that begins so; ten times as fast as a parser. Groups: dots and module of a from, or what is imported.
_NAME = r"[\w.]+(?:[ \t]+as[ \t]+\w+)?"
STATEMENT = re.compile(
    rf"^[ \t]*(?:from[ \t]+(\.*)([\w.]*)[ \t]+import\b|import[ \t]+({_NAME}(?:[ \t]*,[ \t]*{_NAME})*)[ \t]*(?:#.*)?$)",
    re.MULTILINE,
)
RAREST = 5
SMALLEST = 4
EVALUATION_SHARE = 10  # one in so many
HELD_OUT_SHARE = 5
MODEL = "imports-bert"
MODEL_CONFIG: dict[str, Any] = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_act": "gelu",
    "max_position_embeddings": 64,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-12,
}

Items = tuple[str, ...]


def imported(source: str, *, package: Sequence[str]) -> set[str]:
    """The modules that the import statements of a file in ``package`` name, those of examples in its texts too."""
    names = set()
    for dots, module, modules in STATEMENT.findall(source):
        if modules:
            names.update(name.split()[0] for name in modules.split(","))
        else:
            above = package[: len(package) - len(dots) + 1] if dots else ()
            names.add(".".join([*above, *([module] if module else [])]))
    return names - {""}


def files_of(packages: Iterable[str]) -> Iterator[set[str]]:
    """What each file of the installed packages imports. Raises ModuleNotFoundError."""
    for name in packages:
        spec = find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(f"the package {name} isn't installed")
        folder = Path(spec.submodule_search_locations[0])
        for path in sorted(folder.rglob("*.py")):
            source = path.read_text(encoding="utf-8", errors="replace")
            yield imported(source, package=(name, *path.relative_to(folder).parent.parts))


def sets_of(files: Iterable[set[str]]) -> list[Items]:
    """Distinct sets, sorted by hash. Leaving out a file makes items rarer, so it is done until nothing is left out."""
    sets = {tuple(sorted(names)) for names in files}
    while True:
        counts = Counter(item for one in sets for item in one)
        kept = {tuple(item for item in one if counts[item] >= RAREST) for one in sets}
        kept = {one for one in kept if len(one) >= SMALLEST}
        if kept == sets:
            return sorted(sets, key=hash_of)
        sets = kept


def hash_of(items: Iterable[str]) -> int:
    return int.from_bytes(hashlib.sha256("\n".join(items).encode()).digest()[:8])


def question(items: Items) -> dict[str, list[str]]:
    """An evaluation line."""
    order = sorted(items, key=lambda item: hash_of((item, *items)))
    held_out = set(order[: max(1, len(items) // HELD_OUT_SHARE)])
    return {"items": [item for item in items if item not in held_out], "heldOut": sorted(held_out)}


def write_imports(*, models: Path, data: Path, packages: Sequence[str] = PACKAGES) -> None:
    sets = sets_of(files_of(packages))
    training = [{"items": list(one)} for one in sets if hash_of(one) % EVALUATION_SHARE]
    evaluation = [question(one) for one in sets if not hash_of(one) % EVALUATION_SHARE]
    write(data / "imports" / "train.jsonl", lines_of(training))
    write(data / "imports" / "evaluation.jsonl", lines_of(evaluation))
    write(models / MODEL / "config.json", (json.dumps(MODEL_CONFIG, indent=2) + "\n").encode())
    items = len({item for one in sets for item in one})
    print(f"{len(training)} training sets, {len(evaluation)} evaluation sets of {items} items")
