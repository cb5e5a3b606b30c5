"""A language model's own measurements: its predictions, its answers beside others, its times."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from cycle_server.engine.causal.model import CausalEngine
from cycle_server.engine.device import choose_device
from cycle_server.errors import BadInputError
from cycle_server.profiler.evaluate import check_metrics
from cycle_server.profiler.generation import measure_generation
from cycle_server.profiler.measured import HTTP_REQUESTS, Measured, different
from cycle_server.profiler.tokens import evaluate_tokens, neighbours
from cycle_server.protocol import v2
from cycle_server.server.generator import KEY_VALUE_BYTES, decoding_threads, warm_up
from cycle_server.token_rows import RowEncoder, TokenRow
from cycle_wire.metrics import METRICS
from cycle_wire.parts import Fields, Task
from cycle_wire.serving import ProfilingConfig, ServerConfig

EVALUATION = "spec.data.evaluation"


def measure_language_model(config: ProfilingConfig, server: ServerConfig) -> Measured:
    """Concurrencies are the batch sizes, prompts have the sequence lengths. Raises BadInputError."""
    check_metrics(config.evaluation.metrics, known=METRICS[Task.LANGUAGE_MODELING])
    most = max(config.batch_sizes)
    engine = CausalEngine(
        Path(server.variant_path),
        threads=decoding_threads(server),
        pool_bytes=server.key_value_bytes or KEY_VALUE_BYTES,
        sequences=most,
        device=choose_device(config.device),
    )
    rows, texts = read_token_rows(config, server, maximum_tokens=engine.maximum_tokens)
    # One token each: what HTTP adds doesn't depend on how many. A word is enough: no prompt may be too long.
    prompts = different([text[:4] for text in texts], HTTP_REQUESTS)
    cost = warm_up(engine, sequences=most)
    invariant, difference = neighbours(engine, texts, cost=cost)
    return Measured(
        metrics=evaluate_tokens(engine, rows, metrics=config.evaluation.metrics),
        batch_invariant=invariant,
        neighbour_difference=difference,
        generation=measure_generation(
            engine, texts, cost=cost, concurrencies=config.batch_sizes, prompt_lengths=config.sequence_lengths
        ),
        bodies=[v2.infer_request(text, max_tokens=1) for text in prompts],
        workers=1,
        threads=decoding_threads(server),
        pool_bytes=engine.pool_bytes,
    )


def read_token_rows(
    config: ProfilingConfig, server: ServerConfig, *, maximum_tokens: int
) -> tuple[list[TokenRow], list[str]]:
    """The evaluation rows as the trainer reads them, and their texts. Raises BadInputError: DataNotFound or BadData."""
    path = Path(config.evaluation_path)
    encoder = RowEncoder(Path(server.variant_path))
    rows: list[TokenRow] = []
    texts: list[str] = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate((line for line in lines if line.strip()), start=1):
                if number - 1 == config.evaluation.maximum_rows:
                    break
                row, text = _row(line, fields=config.fields, encoder=encoder, where=f"{path}, row {number}")
                rows += row.pieces(maximum_tokens)
                texts.append(text)
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}", reason="DataNotFound", field=EVALUATION) from error
    if not rows:
        raise BadInputError(f"{path} has nothing to predict", reason="BadData", field=EVALUATION)
    return rows, texts


def _row(line: str, *, fields: Fields, encoder: RowEncoder, where: str) -> tuple[TokenRow, str]:
    try:
        record: Mapping[str, Any] = json.loads(line)
        if fields.messages in record:
            messages = record[fields.messages]
            return encoder.chat(messages), " ".join(str(message["content"]) for message in messages)
        text = str(record[fields.text])
    except (KeyError, TypeError, ValueError, TemplateError) as error:
        message = f"{where}: neither a text nor a chat: {error}"
        raise BadInputError(message, reason="BadData", field=EVALUATION) from error
    return encoder.texts([text])[0], text
