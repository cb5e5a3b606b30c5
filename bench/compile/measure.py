"""The measurement itself, inside the image: `python -m bench.compile.measure`. See bench.compile.__main__."""

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.kernels import CANDIDATES, CLASSES, HEADS, HIDDEN, INNER, LAYERS, LONGEST, WORDS, make_encoder
from cycle_server.engine.encoder import ACTIVATIONS, Encoder, Layer
from cycle_server.engine.pipeline import configure_process
from cycle_server.engine.quantized import FloatLinear, Linear
from cycle_server.load.arrivals import LengthDistribution

LENGTHS = LengthDistribution(p50=16, p99=48)  # the traffic of examples/cycleservice.yaml
STREAM = 96
EAGER = {"fp32": "fp32 packed", "bf16": "bf16 packed", "int8": "int8 fbgemm"}
TO_COMPILE = {"fp32": "fp32 torch", "bf16": "bf16 torch", "int8": "int8 _int_mm"}  # inductor packs float weights itself

Text = list[int]
Predict = Callable[[Sequence[Text]], Tensor]


class Between(nn.Module):  # type: ignore[misc]
    """From one attention's output to the next one's input: all of a layer that looks at each token alone."""

    def __init__(self, layer: Layer, following: Layer | None, *, activation: str) -> None:
        super().__init__()
        self.attention_out, self.intermediate, self.output = map(
            as_module, (layer.attention_out, layer.intermediate, layer.output)
        )
        self.following = as_module(following.attention_in) if following else nn.Identity()
        self.norms = (layer.attention_norm, layer.output_norm)
        self.activation = ACTIVATIONS[activation]

    def forward(self, attended: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.norms[0](self.attention_out(attended) + hidden)
        hidden = self.norms[1](self.output(self.activation(self.intermediate(hidden))) + hidden)
        return hidden, self.following(hidden)


def as_module(linear: Linear) -> Callable[[Tensor], Tensor]:
    """A float layer as torch's own module, whose weights ``freezing`` takes for constants; int8 as it is."""
    if not isinstance(linear, FloatLinear):
        return linear
    outputs, inputs = linear.weight.shape
    module = nn.Linear(inputs, outputs, dtype=linear.weight.dtype)
    module.weight = nn.Parameter(linear.weight, requires_grad=False)
    module.bias = nn.Parameter(linear.bias, requires_grad=False)
    return module  # type: ignore[no-any-return]


def packed_compiled(encoder: Encoder) -> Predict:
    layers = list(encoder.layers)
    between = [
        torch.compile(Between(layer, following, activation=encoder.activation).eval(), dynamic=True)
        for layer, following in zip(layers, [*layers[1:], None], strict=True)
    ]

    def predict(texts: Sequence[Text]) -> Tensor:
        lengths = [len(text) for text in texts]
        hidden = encoder._embed(torch.tensor([token for text in texts for token in text]), lengths)
        mixed = layers[0].attention_in(hidden)
        for layer, step in zip(layers, between, strict=True):
            attended = encoder._attend(layer, mixed, lengths)
            hidden, mixed = step(attended, hidden)
        return encoder.classifier(torch.stack([part.mean(dim=0) for part in hidden.float().split(lengths)]))

    return predict


def padded(dtype: torch.dtype, *, compiled: bool) -> Predict:
    from transformers import AutoModel, BertConfig

    from cycle_server.engine.model import EncoderClassifier

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INNER,
        max_position_embeddings=LONGEST,
    )
    model: Any = EncoderClassifier(AutoModel.from_config(config), classes=CLASSES).to(dtype).eval()
    run = torch.compile(model, dynamic=True) if compiled else model

    def predict(texts: Sequence[Text]) -> Tensor:
        longest = max(len(text) for text in texts)
        ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
        mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
        return run(ids, mask)

    return predict


@dataclass
class Way:
    name: str
    predict: Predict
    first_seconds: float = 0.0
    grown_mib: float = 0.0
    graphs: int = 0


def stream(batch_size: int) -> list[list[Text]]:
    source = random.Random(1)
    texts = [[source.randrange(1000, 20_000) for _ in range(LENGTHS.sample(source))] for _ in range(STREAM)]
    return [texts[i : i + batch_size] for i in range(0, STREAM, batch_size)]


def ways(precision: str, batches: Sequence[Sequence[Text]]) -> list[Way]:
    """Each has run over the batches once."""
    eager = make_encoder(*CANDIDATES[EAGER[precision]])
    dtype, factory = CANDIDATES[TO_COMPILE[precision]]
    makers: dict[str, Callable[[], Predict]] = {
        "packed eager (ours)": lambda: eager.logits,
        "packed compiled": lambda: packed_compiled(make_encoder(dtype, factory)),
    }
    if precision != "int8":
        makers["padded eager"] = lambda: padded(dtype, compiled=False)
        makers["padded compiled"] = lambda: padded(dtype, compiled=True)
    made = []
    for name, make in makers.items():
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        way, before = Way(name, make()), resident_mib()
        seconds = [timed(way.predict, batches, clock=time.perf_counter) for _ in range(3)]
        way.first_seconds, way.grown_mib = seconds[0] - seconds[2], resident_mib() - before
        way.graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        made.append(way)
    return made


def timed(predict: Predict, batches: Sequence[Sequence[Text]], *, clock: Callable[[], float]) -> float:
    started = clock()
    for batch in batches:
        predict(batch)
    return clock() - started


def resident_mib() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(*, batch_size: int, turns: int) -> None:
    batches = stream(batch_size)
    for precision in EAGER:
        made = ways(precision, batches)
        answers = [way.predict(batches[0]).float() for way in made[:2]]
        difference = float((answers[0] - answers[1]).abs().max() / answers[0].abs().max())
        times: dict[str, list[float]] = {way.name: [] for way in made}
        for _ in range(turns):
            for way in made:
                times[way.name].append(timed(way.predict, batches, clock=time.thread_time))
        ours = times[made[0].name]
        for way in made:
            rate = STREAM / statistics.median(times[way.name])
            ratios = sorted(base / own for base, own in zip(ours, times[way.name], strict=True))
            print(
                f"{precision:<6}{batch_size:>6}  {way.name:<22}{rate:>8.0f}{statistics.median(ratios):>8.2f}"
                f" ({ratios[0]:.2f}-{ratios[-1]:.2f}){way.first_seconds:>9.1f}{way.grown_mib:>8.0f}{way.graphs:>8}",
                flush=True,
            )
        print(f"      compiled and eager differ by {difference:.1e} of the largest logit", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, required=True)
    options = parser.parse_args()
    configure_process(threads=1)
    import torch._inductor.config

    torch._inductor.config.freezing = True
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", "/tmp/inductor")
    print("kernel batch  way                    texts/s   against ours        first     MiB  graphs", flush=True)
    with torch.inference_mode():
        for batch_size in (1, 8):
            measure(batch_size=batch_size, turns=options.turns)


if __name__ == "__main__":
    main()
