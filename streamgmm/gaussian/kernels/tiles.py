"""The two matrix products of an E-step, for vector registers.

Every feature of every covariance family is a product of two rows of a factor matrix Z (J x rows) whose row 0 is 1::

    phi = (Z_i * Z_j : i < I, i <= j < J)        full: I = J = 1 + D; the others: I = 1

so phi is never stored: the tiles form each product in a register and use it at once. Rows run along the vector lanes.

    product tile       out[k, r] = sum_f theta[k, f] phi[f, r]      a tile of k x (2 vectors of rows), f runs through
    statistics tile    out[k, f] = sum_r resp[k, r] phi[f, r]       a tile of k x (3 features), rows run through

The vectors have a fixed number of lanes (8 doubles, 16 floats) whatever the machine's own width: LLVM splits them
where registers are shorter. Each output is therefore one fixed chain of fused multiply-adds, with the same bits on
every machine that has them. Only the size of a tile follows the number of registers.

The code below writes LLVM's intermediate representation, since Numba has no vector type. What is kept in `_Local`
variables ends up in registers (LLVM promotes stack slots of the entry block).
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from streamgmm.gaussian.kernels.compilation import has_32_wide_registers

#: Rows of one block: what the compiled loop loads, multiplies and reduces at a time.
BLOCK_ROWS = 256
#: Distance between the rows of a block matrix: one vector more than a block, so that a column is spread over the sets
#: of the cache (a power of two would put it in one).
STRIDE_FLOAT64 = BLOCK_ROWS + 8
STRIDE_FLOAT32 = BLOCK_ROWS + 16
LANES_FLOAT64 = 8
LANES_FLOAT32 = 16

_WIDE = has_32_wide_registers()
#: Components of a large and of a small tile. K is padded to a multiple of the small one.
LARGE_GROUP = 8 if _WIDE else 4
SMALL_GROUP = 4
#: Vectors of rows in a product tile.
TILE_VECTORS = 2 if _WIDE else 1
#: Parts of a vector that a statistics tile runs through the rows for, one after the other: its accumulators are to fit
#: into the registers.
PASSES = 1 if _WIDE else 2
#: Features in a statistics tile. Lists of features are padded to a multiple of it.
TILE_FEATURES = 3

_INDEX = ir.IntType(64)


def _index(value: int) -> Any:
    return ir.Constant(_INDEX, value)


class _Vectors:
    """Vector operations for one element type on one IR builder, on whole vectors or on one of so many `parts`."""

    def __init__(self, builder: Any, element: Any, dtype: Any, parts: int = 1) -> None:
        self.builder = builder
        lanes, self.stride = (
            (LANES_FLOAT64, STRIDE_FLOAT64) if dtype == types.float64 else (LANES_FLOAT32, STRIDE_FLOAT32)
        )
        self.lanes = lanes // parts
        self.alignment = 64 // parts  # `block.aligned` allocates so
        self.type = ir.VectorType(element, self.lanes)
        self.zero = ir.Constant(self.type, [0.0] * self.lanes)
        name = f"llvm.fmuladd.v{self.lanes}{element.intrinsic_name}"
        self._fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(self.type, [self.type] * 3), name)

    def load(self, pointer: Any, offset: Any = None) -> Any:
        address = pointer if offset is None else self.builder.gep(pointer, [offset])
        value = self.builder.load(self.builder.bitcast(address, self.type.as_pointer()))
        value.align = self.alignment
        return value

    def store(self, value: Any, pointer: Any, offset: Any) -> None:
        address = self.builder.gep(pointer, [offset])
        self.builder.store(value, self.builder.bitcast(address, self.type.as_pointer()), align=self.alignment)

    def splat(self, scalar: Any) -> Any:
        undefined = ir.Constant(self.type, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, mask)

    def multiply_add(self, a: Any, b: Any, accumulator: Any) -> None:
        """Accumulator += a * b, for a local variable."""
        total = self.builder.call(self._fma, [a, b, self.builder.load(accumulator)])
        self.builder.store(total, accumulator)

    def accumulators(self, n: int) -> list[Any]:
        slots = [cgutils.alloca_once(self.builder, self.type) for _ in range(n)]
        for slot in slots:
            self.builder.store(self.zero, slot)
        return slots

    def sum_lanes(self, parts: list[Any]) -> Any:
        """Sum the lanes of a whole vector, given in its parts: halves added to halves, always in this order."""
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [self.builder.fadd(a, b) for a, b in zip(parts[:half], parts[half:], strict=True)]
        (vector,) = parts
        width = self.lanes
        while width > 1:
            half = width // 2
            undefined = ir.Constant(vector.type, ir.Undefined)
            halves = [
                self.builder.shuffle_vector(
                    vector,
                    undefined,
                    ir.Constant(ir.VectorType(ir.IntType(32), half), list(range(start, start + half))),
                )
                for start in (0, half)
            ]
            vector, width = self.builder.fadd(*halves), half
        return self.builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


def _pointer(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    return context.make_array(array_type)(context, builder, value=array).data


def _make_product_tile(n_components: int) -> Any:
    """Make ``tile(z, theta, out, row, component, n_left, n_factors)`` for a number of components fixed at compile time.

    `theta` holds this group's parameters, feature by feature, `n_components` values each.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def product_tile(
        _typing: Any, z: Any, theta: Any, out: Any, row: Any, component: Any, n_left: Any, n_factors: Any
    ) -> Any:
        signature = types.void(z, theta, out, types.int64, types.int64, types.int64, types.int64)

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            vectors = _Vectors(builder, context.get_value_type(z.dtype), z.dtype)
            z_at, theta_at, out_at = (
                _pointer(context, builder, t, a) for t, a in zip(sig.args[:3], args, strict=False)
            )
            row, component, n_left, n_factors = args[3:]
            z_at = builder.gep(z_at, [row])
            out_at = builder.gep(out_at, [builder.add(builder.mul(component, _index(vectors.stride)), row)])
            totals = [vectors.accumulators(TILE_VECTORS) for _ in range(n_components)]
            left = vectors.accumulators(TILE_VECTORS)
            theta_now = cgutils.alloca_once_value(builder, theta_at)
            builder.store(theta_at, theta_now)
            offsets = [_index(v * vectors.lanes) for v in range(TILE_VECTORS)]
            with cgutils.for_range_slice(builder, _index(0), n_left, _index(1)) as (i, _):
                z_i = builder.gep(z_at, [builder.mul(i, _index(vectors.stride))])
                for v, offset in enumerate(offsets):
                    builder.store(vectors.load(z_i, offset), left[v])
                with cgutils.for_range_slice(builder, i, n_factors, _index(1)) as (j, _):
                    z_j = builder.gep(z_at, [builder.mul(j, _index(vectors.stride))])
                    phi = [
                        builder.fmul(builder.load(left[v]), vectors.load(z_j, offset))
                        for v, offset in enumerate(offsets)
                    ]
                    theta_f = builder.load(theta_now)
                    for k in range(n_components):
                        coefficient = vectors.splat(builder.load(builder.gep(theta_f, [_index(k)])))
                        for v in range(TILE_VECTORS):
                            vectors.multiply_add(coefficient, phi[v], totals[k][v])
                    builder.store(builder.gep(theta_f, [_index(n_components)]), theta_now)
            for k in range(n_components):
                for v, offset in enumerate(offsets):
                    at = builder.add(_index(k * vectors.stride), offset)
                    vectors.store(builder.load(totals[k][v]), out_at, at)
            return context.get_dummy_value()

        return signature, generate

    return product_tile


def _make_statistics_tile(n_components: int) -> Any:
    """Make ``tile(z, resp, out, component, left, right)`` for a number of components fixed at compile time.

    `left` and `right` are tuples of `TILE_FEATURES` rows of z: feature f is z[left[f]] * z[right[f]]. The sums over a
    block's rows are written to out[k * TILE_FEATURES + f].
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def statistics_tile(_typing: Any, z: Any, resp: Any, out: Any, component: Any, left: Any, right: Any) -> Any:
        signature = types.void(z, resp, out, types.int64, left, right)

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            vectors = _Vectors(builder, context.get_value_type(z.dtype), z.dtype, PASSES)
            z_at, resp_at, out_at = (_pointer(context, builder, t, a) for t, a in zip(sig.args[:3], args, strict=False))
            resp_at = builder.gep(resp_at, [builder.mul(args[3], _index(vectors.stride))])
            left, right = (
                [builder.gep(z_at, [builder.mul(f, _index(vectors.stride))]) for f in cgutils.unpack_tuple(builder, a)]
                for a in args[4:]
            )
            sums = []
            for part in range(PASSES):
                totals = [vectors.accumulators(TILE_FEATURES) for _ in range(n_components)]
                first, step = part * vectors.lanes, PASSES * vectors.lanes
                with cgutils.for_range_slice(builder, _index(first), _index(BLOCK_ROWS), _index(step)) as (row, _):
                    phi = [
                        builder.fmul(vectors.load(i, row), vectors.load(j, row))
                        for i, j in zip(left, right, strict=True)
                    ]
                    for k in range(n_components):
                        resp_k = vectors.load(resp_at, builder.add(row, _index(k * vectors.stride)))
                        for f in range(TILE_FEATURES):
                            vectors.multiply_add(resp_k, phi[f], totals[k][f])
                sums.append([[builder.load(total) for total in of_component] for of_component in totals])
            for k in range(n_components):
                for f in range(TILE_FEATURES):
                    total = vectors.sum_lanes([of_part[k][f] for of_part in sums])
                    builder.store(total, builder.gep(out_at, [_index(k * TILE_FEATURES + f)]))
            return context.get_dummy_value()

        return signature, generate

    return statistics_tile


product_tile_large = _make_product_tile(LARGE_GROUP)
product_tile_small = _make_product_tile(SMALL_GROUP)
statistics_tile_large = _make_statistics_tile(LARGE_GROUP)
statistics_tile_small = _make_statistics_tile(SMALL_GROUP)
