"""KServe's python server with a custom model: Open Inference Protocol v2 is its own. It doesn't batch requests.

python -m bench.serve.peers.kserving --folder F --port P --kind engine
"""

import argparse
import logging
from pathlib import Path
from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid

from bench.serve.peers.model import load_predict


class TextClassifier(Model):  # type: ignore[misc]
    def __init__(self, folder: Path, kind: str) -> None:
        super().__init__("m")
        self._predict = load_predict(folder, kind=kind)
        self.ready = True

    def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:  # noqa: ARG002
        texts: list[str] = payload.inputs[0].data  # as_string() wants bytes, which JSON never gives
        answers = self._predict(texts)
        label = InferOutput(name="label", shape=[len(texts)], datatype="BYTES", data=[name for name, _ in answers])
        probability = InferOutput(
            name="probability", shape=[len(texts)], datatype="FP32", data=[value for _, value in answers]
        )
        return InferResponse(
            response_id=payload.id or generate_uuid(), model_name="m", infer_outputs=[label, probability]
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--kind", required=True)
    options = parser.parse_args()
    server = ModelServer(
        http_port=options.port, workers=1, enable_grpc=False, enable_latency_logging=False, access_log_format=None
    )
    logging.disable(logging.INFO)
    server.start([TextClassifier(options.folder, options.kind)])


if __name__ == "__main__":
    main()
