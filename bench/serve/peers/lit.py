"""LitServe with its batching: one worker for the model, one process for HTTP.

python -m bench.serve.peers.lit --folder F --port P --kind engine --batch 8
"""

import argparse
from pathlib import Path
from typing import Any

import litserve

from bench.serve.peers.model import Answer, load_predict

# LitServe's own default of 0 makes the worker poll its queue without pause, on the core that also has to serve HTTP.
BATCH_TIMEOUT_SECONDS = 0.002


class TextClassifier(litserve.LitAPI):  # type: ignore[misc]
    def __init__(self, folder: Path, kind: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._folder, self._kind = folder, kind

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        self._predict = load_predict(self._folder, kind=self._kind)

    def decode_request(self, request: dict[str, Any]) -> str:
        return str(request["inputs"][0]["data"][0])

    def predict(self, texts: list[str]) -> list[Answer]:
        return self._predict(texts)

    def encode_response(self, output: Answer) -> dict[str, Any]:
        label, probability = output
        return {
            "model_name": "m",
            "outputs": [
                {"name": "label", "shape": [1], "datatype": "BYTES", "data": [label]},
                {"name": "probability", "shape": [1], "datatype": "FP32", "data": [probability]},
            ],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--kind", required=True)
    parser.add_argument("--batch", type=int, required=True)
    options = parser.parse_args()
    api = TextClassifier(
        options.folder,
        options.kind,
        max_batch_size=options.batch,
        batch_timeout=BATCH_TIMEOUT_SECONDS,
        api_path="/v2/models/m/infer",
    )
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=30)
    server.run(
        host="127.0.0.1",
        port=options.port,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
