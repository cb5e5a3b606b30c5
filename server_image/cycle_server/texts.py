"""Real texts of wanted lengths, in tokens with the special ones, for the profiler and the load generator."""

import random
from collections import defaultdict
from collections.abc import Sequence

from tokenizers import Tokenizer

ENCODE_AT_ONCE = 2048


class TextSource:
    """Texts by their length. Gives each text once, then joins words of several to further ones."""

    def __init__(self, texts: Sequence[str], *, tokenizer: Tokenizer, seed: int) -> None:
        if not texts:
            raise ValueError("there are no texts to take from")
        self._tokenizer = tokenizer
        self._random = random.Random(seed)
        self._texts = list(dict.fromkeys(texts))
        self._random.shuffle(self._texts)
        self._by_length: dict[int, list[str]] = defaultdict(list)
        for first in range(0, len(self._texts), ENCODE_AT_ONCE):
            part = self._texts[first : first + ENCODE_AT_ONCE]
            for text, encoding in zip(part, tokenizer.encode_batch_fast(part), strict=True):
                self._by_length[len(encoding.ids)].append(text)

    def take(self, length: int) -> str:
        """A text of ``length`` tokens; a joined one may be a token off when its last word divides otherwise."""
        return self._by_length[length].pop() if self._by_length[length] else self._join(length)

    def take_nearest(self, length: int) -> str:
        """A text as it is whose length is nearest. Raises LookupError when all are given."""
        left = [have for have, texts in self._by_length.items() if texts]
        if not left:
            raise LookupError("every text is taken")
        return self._by_length[min(left, key=lambda have: (abs(have - length), have))].pop()

    def length_of(self, text: str) -> int:
        return len(self._tokenizer.encode(text).ids)

    def _join(self, length: int) -> str:
        """Words of random texts, cut behind the token that makes the length full."""
        parts = [self._random.choice(self._texts)]
        while self.length_of(" ".join(parts)) < length and len(parts) <= length:
            parts.append(self._random.choice(self._texts))
        text = " ".join(parts)
        encoding = self._tokenizer.encode(text)
        special = sum(encoding.special_tokens_mask)
        last = max(length - special, 1) - 1
        ends = [end for (_, end), mask in zip(encoding.offsets, encoding.special_tokens_mask, strict=True) if not mask]
        return text[: ends[min(last, len(ends) - 1)]] if ends else text
