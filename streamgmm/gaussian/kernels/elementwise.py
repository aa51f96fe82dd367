"""exp and log as straight-line arithmetic, so that a loop over them vectorises without any vector math library.

`math.exp` in a compiled loop is one library call per value. The functions here are a range reduction, a polynomial and
some integer arithmetic on the exponent bits: about 1 ns per value or less.
"""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from streamgmm.gaussian.kernels.compilation import inlined

_LOG2_E = 1.4426950408889634
# log(2) in two parts: the first has 33 significant bits, so n * _LN2_HIGH is exact for every exponent n.
_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
# 1.5 * 2^52: adding it rounds a double to the nearest integer and leaves that integer in the lowest bits.
_ROUND = 6755399441055744.0
_ROUND_BITS = 0x4338000000000000
_SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
#: Below this exp is taken as zero (the smallest normal double is exp(-708.4)): no denormals reach the products.
EXP_UNDERFLOW = -708.0


@intrinsic  # type: ignore[untyped-decorator]
def bits_of(_context: Any, x: Any) -> Any:
    """Return the bits of a double as a 64-bit integer."""

    def generate(_ctx: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _double_of(_context: Any, bits: Any) -> Any:
    def generate(_ctx: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), generate


@inlined
def exp(x: float) -> float:
    """exp(x) for x <= 0, to 1 ulp; zero below `EXP_UNDERFLOW`.

    Cody-Waite reduction x = n log 2 + r with |r| <= log(2)/2, a polynomial of degree 11 in r (Chebyshev fit on
    that interval, error under 3e-18), and 2^n written into the exponent bits.
    """
    y = x if x > EXP_UNDERFLOW else EXP_UNDERFLOW
    shifted = y * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (y - n * _LN2_HIGH) - n * _LN2_LOW
    p = 2.5110049204818658e-08
    p = p * r + 2.763265472252779e-07
    p = p * r + 2.755724088722987e-06
    p = p * r + 2.4801485441561313e-05
    p = p * r + 0.00019841269890076403
    p = p * r + 0.0013888888952352863
    p = p * r + 0.008333333333319589
    p = p * r + 0.04166666666648795
    p = p * r + 0.1666666666666668
    p = p * r + 0.5000000000000019
    p = p * r + 1.0
    p = p * r + 1.0
    # The low bits of `shifted` hold n; those above bit 11 leave with the shift.
    value = p * _double_of((bits_of(shifted) + 1023) << 52)
    return value if x > EXP_UNDERFLOW else 0.0


@inlined
def log(x: float) -> float:
    """log(x) for a normal positive x, to 1 ulp.

    x = 2^n (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), then log(1 + f) = f - f^2/2 + s (f^2/2 + R(s^2)) with
    s = f / (2 + f) and the minimax polynomial R of Sun's fdlibm (e_log.c, 1993).
    """
    bits = bits_of(x)
    n = (bits - _SQRT_HALF_BITS) >> 52
    f = _double_of(bits - (n << 52)) - 1.0
    exponent = _double_of(n + _ROUND_BITS) - _ROUND
    s = f / (2.0 + f)
    z = s * s
    p = 1.479819860511658591e-01
    p = p * z + 1.531383769920937332e-01
    p = p * z + 1.818357216161805012e-01
    p = p * z + 2.222219843214978396e-01
    p = p * z + 2.857142874366239149e-01
    p = p * z + 3.999999999940941908e-01
    p = p * z + 6.666666666666735130e-01
    half = 0.5 * f * f
    value: float = exponent * _LN2_HIGH - ((half - (s * (half + p * z) + exponent * _LN2_LOW)) - f)
    return value
