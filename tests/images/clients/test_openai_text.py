"""The real openai client with a language model: chats, completions, streams, errors."""

import openai
import pytest
import torch

from tests.images.clients.conftest import Generating
from tests.images.server.causal_variants import CONTEXT, tokenizer

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is the cat?"}]


@pytest.fixture(scope="module")
def client(generating: Generating) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://{generating.url}/v1", api_key="none is needed", max_retries=0)


def reference(generating: Generating, text: str, new: int) -> str:
    """Greedy, by transformers."""
    made = tokenizer()
    prompt = made(text).input_ids
    with torch.no_grad():
        out = generating.reference.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),  # else a chat's <|end|> is taken for padding
            max_new_tokens=new,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=None,
        )
    return str(made.decode(out[0, len(prompt) :], skip_special_tokens=True))


def test_a_chat_is_answered_as_transformers_does(client: openai.OpenAI, generating: Generating) -> None:
    answer = client.chat.completions.create(model="m", messages=CHAT, max_completion_tokens=30, temperature=0)  # type: ignore[arg-type]
    text = f"<|system|>{CHAT[0]['content']}<|end|><|user|>{CHAT[1]['content']}<|end|><|assistant|>"
    assert answer.choices[0].message.content == reference(generating, text, 30)
    assert answer.choices[0].finish_reason == "length"
    assert answer.object == "chat.completion"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(tokenizer()(text).input_ids), 30)


def test_a_chat_without_a_limit_goes_on_until_the_context_is_full(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="m", messages=CHAT)  # type: ignore[arg-type]
    assert answer.usage is not None
    assert answer.usage.total_tokens == CONTEXT
    assert answer.choices[0].finish_reason == "length"


def test_a_streamed_chat_is_the_whole_one(client: openai.OpenAI) -> None:
    asked = {"model": "m", "messages": CHAT, "max_tokens": 40, "temperature": 0}
    whole = client.chat.completions.create(**asked)  # type: ignore[call-overload]
    told = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))  # type: ignore[call-overload]
    assert told[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in told[:-1]) == whole.choices[0].message.content
    assert told[-2].choices[0].finish_reason == "length"
    assert (told[-1].choices, told[-1].usage) == ([], whole.usage)
    assert len({chunk.id for chunk in told}) == 1
    assert len(told) > 15


def test_completions_and_their_streams(client: openai.OpenAI, generating: Generating) -> None:
    answer = client.completions.create(model="m", prompt="The cat", max_tokens=25, temperature=0)
    assert answer.choices[0].text == reference(generating, "The cat", 25)
    stop = answer.choices[0].text[8:11]
    cut = client.completions.create(model="m", prompt=["The cat"], max_tokens=25, temperature=0, stop=stop)
    assert cut.choices[0].text == answer.choices[0].text[: answer.choices[0].text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    told = list(client.completions.create(model="m", prompt="The cat", max_tokens=25, temperature=0, stream=True))
    assert "".join(chunk.choices[0].text for chunk in told) == answer.choices[0].text
    default = client.completions.create(model="m", prompt="The cat", seed=1)
    assert default.usage is not None
    assert default.usage.completion_tokens == 16
    assert client.completions.create(model="m", prompt="The cat", seed=1).choices[0].text == default.choices[0].text


def test_errors_name_the_parameter(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="unknown model 'gpt'"):
        client.chat.completions.create(model="gpt", messages=CHAT)  # type: ignore[arg-type]
    with pytest.raises(openai.NotFoundError, match="generates text"):
        client.embeddings.create(model="m", input="a")
    for fields, name in (
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"temperature": 3}, "temperature"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens"),
    ):
        with pytest.raises(openai.BadRequestError) as error:
            client.chat.completions.create(model="m", messages=CHAT, **fields)  # type: ignore[call-overload]
        assert error.value.param == name
    with pytest.raises(openai.APIStatusError) as overloaded:
        client.completions.create(model="m", prompt="a", extra_headers={"X-Cycle-Deadline-Ms": "0.001"})
    assert overloaded.value.status_code == 503
    assert int(overloaded.value.response.headers["Retry-After"]) >= 1
