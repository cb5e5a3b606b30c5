"""What every server of the benchmark does with texts: the same weights, one thread, label and probability out.

``engine`` is this project's forward pass, so that only the servers differ. ``transformers`` is what a user of a peer
would write: the padded batch through the library's model.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

Answer = tuple[str, float]
Predict = Callable[[Sequence[str]], list[Answer]]
LONGEST_TOKENS = 256


def load_predict(folder: Path, *, kind: str) -> Predict:
    """Texts to their labels with probabilities; ``kind`` is engine or transformers."""
    return {"engine": _engine, "transformers": _transformers}[kind](folder)


def _engine(folder: Path) -> Predict:
    from cycle_server.engine.pipeline import Engine

    engine = Engine(folder, threads=1)

    def predict(texts: Sequence[str]) -> list[Answer]:
        answers = engine.post(engine.compute(engine.pre(texts)))
        return list(zip(answers.labels, answers.probability, strict=True))

    return predict


def _transformers(folder: Path) -> Predict:
    from tokenizers import Tokenizer

    from cycle_server.engine.model import load

    torch.set_num_threads(1)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    labels = manifest["labels"]
    model = load(folder, classes=len(labels))
    if manifest["variant"]["precision"] == "BFloat16":
        model = model.bfloat16()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_length=LONGEST_TOKENS)
    tokenizer.enable_padding()

    def predict(texts: Sequence[str]) -> list[Answer]:
        encodings = tokenizer.encode_batch_fast(list(texts))
        ids = torch.tensor([encoding.ids for encoding in encodings])
        mask = torch.tensor([encoding.attention_mask for encoding in encodings])
        with torch.inference_mode():
            probability, best = model(ids, mask).float().softmax(dim=1).max(dim=1)
        return list(zip([labels[i] for i in best.tolist()], probability.tolist(), strict=True))

    return predict
