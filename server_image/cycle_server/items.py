"""What batches are made of. The len() of an item is what its computing is counted in: tokens, and 1 for an image."""

from collections.abc import Sequence
from typing import TypeAlias

from cycle_server.images import Images

Item: TypeAlias = Sequence[int] | Images
Items: TypeAlias = Sequence[Item]
