"""Compiled kernels over blocks of rows.

Read from the bottom up: `compilation` (one decorator), `elementwise` (exp and log that vectorise), `tiles` (the two
matrix products, written for vector registers), `block` (the loop over blocks: load, logits, softmax, statistics).
`hashing` stands beside them, and `checked` before both: what is called from elsewhere looks at shapes first.

Importing this package imports Numba, so it is imported where a kernel is about to run and nowhere else.
"""

from streamgmm.gaussian.kernels.checked import accumulate, evaluate, hash_rows
from streamgmm.gaussian.kernels.tiles import BLOCK_ROWS

__all__ = ["BLOCK_ROWS", "accumulate", "evaluate", "hash_rows"]
