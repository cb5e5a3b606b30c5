"""What the compiled loop of continuous batching takes. Times are seconds; arrays have one entry per request."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


class Steps(NamedTuple):
    """How long a step of decoding takes, by how many sequences get a token and how long they are in the mean.

    ``seconds[decoding, place]``: row 0 is not used; places are ``width`` tokens of mean context apart, between them
    it is linear. ``luck``: what a step is of its mean, taken one after the other. ``shared``: seconds that a step takes
    once, whatever it computes: a prompt that is computed beside others pays no second time for it.
    """

    seconds: Array
    width: float
    luck: Array
    shared: float


class Admission(NamedTuple):
    """Of one replica: ``most_sequences`` are under way at once, and their prompts share ``prompt_tokens`` of a step."""

    most_sequences: int
    prompt_tokens: int


class Sequences(NamedTuple):
    """In order of arrival at the balancer."""

    arrival: Array
    ready: Array  # tokenized, at the scheduler
    after: Array  # from the last token (or from ready, if not queued) to the answer
    queued: NDArray[np.bool_]  # False: the cache answers
    prompt: Indices  # tokens
    output: Indices  # tokens, at least 1
    prefill: Array  # seconds that the prompt takes by itself, up to the first token
    dispatcher: Indices
    spread: Array  # 0 to 1: its place on the ring of consistent hashing
