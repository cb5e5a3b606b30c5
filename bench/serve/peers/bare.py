"""FastAPI on uvicorn, one process: one request at a time, or with the batching that one writes in an afternoon.

python -m bench.serve.peers.bare --folder F --port P --kind engine [--batch 8]
"""

import argparse
import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from bench.serve.peers.model import Answer, Predict, load_predict


class Input(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[str]


class InferRequest(BaseModel):
    inputs: list[Input]


class Output(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[str] | list[float]


class InferResponse(BaseModel):
    model_name: str
    outputs: list[Output]


class Batcher:
    """Takes what waits, at most ``size`` texts, and computes it on a thread."""

    def __init__(self, predict: Predict, *, size: int) -> None:
        self._predict = predict
        self._size = size
        self._queue: asyncio.Queue[tuple[str, asyncio.Future[Answer]]] = asyncio.Queue()

    async def submit(self, text: str) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        await self._queue.put((text, future))
        return await future

    async def run(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < self._size and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            answers = await asyncio.to_thread(self._predict, [text for text, _ in batch])
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)


def make_app(predict: Predict, *, batch_size: int) -> FastAPI:
    batcher = Batcher(predict, size=batch_size)

    @asynccontextmanager
    async def lifespan(_app: FastAPI):  # type: ignore[no-untyped-def]
        task = asyncio.create_task(batcher.run())
        yield
        task.cancel()

    app = FastAPI(lifespan=lifespan)

    @app.post("/v2/models/m/infer")  # type: ignore[untyped-decorator]  # fastapi is only in the image
    async def infer(request: InferRequest) -> InferResponse:
        texts = request.inputs[0].data
        if batch_size > 1:
            answers = list(await asyncio.gather(*(batcher.submit(text) for text in texts)))
        else:
            answers = predict(texts)  # on the event loop: one request at a time, and no hand-over to pay for
        labels, probabilities = [label for label, _ in answers], [probability for _, probability in answers]
        return InferResponse(
            model_name="m",
            outputs=[
                Output(name="label", shape=[len(labels)], datatype="BYTES", data=labels),
                Output(name="probability", shape=[len(labels)], datatype="FP32", data=probabilities),
            ],
        )

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--kind", required=True)
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()
    app = make_app(load_predict(options.folder, kind=options.kind), batch_size=options.batch)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
