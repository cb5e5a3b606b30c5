"""Texts and chats as the token sequences that a causal language model learns and is judged on.

Training and evaluation share this file; it must not import anything that only one of them has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

Message = Mapping[str, str]
ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One sequence. ``learned[i]``: the model is to predict ids[i] from those before it; never true of the first."""

    ids: list[int]
    learned: list[bool]

    def pieces(self, maximum_tokens: int) -> list["TokenRow"]:
        """The sequence cut into such of at most so many tokens, without those in which nothing is to be learned."""
        cuts = range(0, len(self.ids), maximum_tokens)
        rows = [_row(self.ids[i : i + maximum_tokens], self.learned[i : i + maximum_tokens]) for i in cuts]
        return [row for row in rows if any(row.learned)]


class RowEncoder:
    """``folder`` has tokenizer.json, and tokenizer_config.json for the end token and the chat template."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)

    @property
    def has_chat_template(self) -> bool:
        return bool(self.tokenizer.chat_template)

    def texts(self, texts: Sequence[str]) -> list[TokenRow]:
        """Each text with the tokenizer's own special tokens and the end token; all of it is learned."""
        end = self.tokenizer.eos_token_id
        rows = []
        for encoding in self.tokenizer.backend_tokenizer.encode_batch_fast(list(texts)):
            ids = list(encoding.ids)
            if end is not None and ids[-1:] != [end]:
                ids.append(end)
            rows.append(_row(ids, [True] * len(ids)))
        return rows

    def chat(self, messages: Sequence[Message]) -> TokenRow:
        """A chat by the tokenizer's template; what the assistant says is learned, its end token included.

        With a template that writes a chat's beginning differently when more follows, all of the chat is learned.
        Raises ValueError without a template and jinja2.TemplateError when the template refuses the messages.
        """
        text = self._written(messages)
        spans = self._assistant_spans(messages, text)
        encoding = self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        learned = [any(begin <= start < end for begin, end in spans) for start, _ in encoding.offsets]
        return _row(list(encoding.ids), learned)

    def _assistant_spans(self, messages: Sequence[Message], text: str) -> list[tuple[int, int]]:
        """Characters of ``text`` that the assistant says."""
        spans = []
        for index, message in enumerate(messages):
            if message["role"] != ASSISTANT:
                continue
            before = self._written(messages[:index], answer_follows=True)
            after = text if index == len(messages) - 1 else self._written(messages[: index + 1])
            if not (text.startswith(after) and after.startswith(before)):
                return [(0, len(text))]
            spans.append((len(before), len(after)))
        return spans

    def _written(self, messages: Sequence[Message], *, answer_follows: bool = False) -> str:
        text: str = self.tokenizer.apply_chat_template(
            [dict(message) for message in messages], tokenize=False, add_generation_prompt=answer_follows
        )
        return text


def _row(ids: list[int], learned: list[bool]) -> TokenRow:
    return TokenRow(ids=ids, learned=[False, *learned[1:]])
