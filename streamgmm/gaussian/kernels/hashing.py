"""A hash of each row's values, by which samples are drawn."""

from typing import Any

from streamgmm.gaussian.kernels.compilation import compiled
from streamgmm.gaussian.kernels.elementwise import bits_of

# The finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), as signed 64-bit integers.
_MULTIPLIER_1 = -0x40A7B892E31B1A47
_MULTIPLIER_2 = -0x6B2FB644ECCEEE15
_SHIFT_MASKS = {30: 2**34 - 1, 27: 2**37 - 1, 31: 2**33 - 1, 32: 2**32 - 1}
_MASK_30, _MASK_27, _MASK_31, _MASK_32 = (_SHIFT_MASKS[shift] for shift in (30, 27, 31, 32))


@compiled
def hash_rows(x: Any, seed: int, keys: Any, finite: Any) -> None:
    """Write a 64-bit hash of the values of each row of x (n, D), float64, to `keys`, and whether all are finite.

    Equal rows have equal hashes, whatever their place; 0.0 and -0.0 are equal.
    """
    for i in range(x.shape[0]):
        flag = 0.0
        h = seed
        for j in range(x.shape[1]):
            value = x[i, j]
            flag += value * 0.0
            # Compared, not added to 0.0: that may be optimised away where the sign of zero is said not to matter.
            h = (h ^ (bits_of(value) if value != 0.0 else 0)) * _MULTIPLIER_1
            h ^= (h >> 32) & _MASK_32
        h = (h ^ ((h >> 30) & _MASK_30)) * _MULTIPLIER_1
        h = (h ^ ((h >> 27) & _MASK_27)) * _MULTIPLIER_2
        keys[i] = h ^ ((h >> 31) & _MASK_31)
        finite[i] = flag == 0.0
