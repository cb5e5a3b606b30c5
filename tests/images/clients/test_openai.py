"""The real openai client and the endpoints that an encoder can answer."""

import openai
import pytest
import torch
from tokenizers import Tokenizer

from tests.images.clients.conftest import Served

TEXTS = ["the cat runs", "a small dog", "the large blue sky of the tree with a cat on it"]


@pytest.fixture(scope="module")
def client(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://{served.url}/v1", api_key="none is needed", max_retries=0)


def reference(served: Served, text: str) -> torch.Tensor:
    """The mean-pooled, normalized embedding as transformers computes it."""
    tokenizer = Tokenizer.from_file(str(served.folder / "tokenizer.json"))
    ids = torch.tensor([tokenizer.encode(text).ids])
    with torch.inference_mode():
        return torch.nn.functional.normalize(served.reference.embed(ids, torch.ones_like(ids)), dim=1)[0]


@pytest.mark.parametrize("arguments", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_embeddings_are_the_normalized_means(client: openai.OpenAI, served: Served, arguments: dict[str, str]) -> None:
    answer = client.embeddings.create(model="m", input=TEXTS, user="someone", **arguments)
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    vectors = [entry.embedding for entry in answer.data]
    if arguments == {"encoding_format": "base64"}:  # the client decodes only what it asked for itself
        assert all(isinstance(vector, str) for vector in vectors)
        return
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert vector == pytest.approx(reference(served, text).tolist(), abs=1e-5)
    assert answer.usage.prompt_tokens == sum(len(text.split()) + 2 for text in TEXTS)


def test_one_text(client: openai.OpenAI) -> None:
    assert len(client.embeddings.create(model="m", input="the cat runs").data) == 1


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["m"]
    assert client.models.retrieve("m").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt")


def test_errors_name_the_parameter(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="unknown model 'gpt'"):
        client.embeddings.create(model="gpt", input="a")
    with pytest.raises(openai.BadRequestError) as error:
        client.embeddings.create(model="m", input=["a", "cat " * 200])
    assert error.value.param == "input[1]"
    assert "48 tokens" in error.value.message
    with pytest.raises(openai.BadRequestError) as error:
        client.embeddings.create(model="m", input="a", dimensions=8)
    assert error.value.param == "dimensions"
    with pytest.raises(openai.APIStatusError) as overloaded:
        client.embeddings.create(model="m", input="a", extra_headers={"X-Cycle-Deadline-Ms": "0.001"})
    assert overloaded.value.status_code == 503
    assert int(overloaded.value.response.headers["Retry-After"]) >= 1


def test_what_needs_a_language_model_is_not_there(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="classifies texts"):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
