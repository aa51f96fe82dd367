"""The survey, the first pass of a fit: counts, mean and covariance, a sample, what is wrong with the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import InputError, MissingValuesError
from streamgmm.execution.passes import Parts, PassCost, run_measured_pass
from streamgmm.initialization.sampling import Draw, Sample, hash_index, hash_values
from streamgmm.serialization import serializable
from streamgmm.sources.base import Block, Rows
from streamgmm.typing import Floats

_BLOCK_BYTES = 4 * 2**20
#: Larger values have squares whose sums may overflow, even of very many rows with weights.
LARGEST_VALUE = 1e140
#: How many times as many rows a sample of different rows may need as one of independent rows for the same precision;
#: beyond it, too many rows are equal. (By value a search begins with the same rows whether or not the sample holds all
#: of them, and ends at the same optimum: worth some rows.)
_LARGEST_DESIGN_EFFECT = 1.5


@serializable
@dataclass(frozen=True)
class SurveyRequest:
    """What to survey.

    Attributes
    ----------
    sample_size : int
        Rows to draw.
    seed : int
        Seed of the hash by which they are drawn.
    n_rows : int or None
        Number of rows where it is known: it lets a task pass over rows that can't be drawn.
    full_scatter : bool
        Whether the products of different features are needed; their squares always are.
    """

    sample_size: int
    seed: int
    n_rows: int | None
    full_scatter: bool

    @property
    def drawn_share(self) -> float:
        """The share of the hashes, the smallest, that come into question for the sample."""
        if self.n_rows is None or self.n_rows <= self.sample_size:
            return 1.0
        # The count of the hashes under a bound is binomial: eight standard deviations of it, and a quarter for rows
        # that can't be used or are equal to others.
        expected = 1.25 * (self.sample_size + 8.0 * np.sqrt(self.sample_size) + 64.0)
        return float(min(expected / self.n_rows, 1.0))


@serializable
@dataclass(frozen=True)
class Survey:
    """What one pass over some rows says about them.

    Attributes
    ----------
    n_rows, n_used : int
        All rows; those with a positive weight and no missing value.
    n_missing : int
        Rows with a positive weight and a missing value.
    first_missing : tuple of (int, int) or None
        Row and feature of the first missing value.
    bad_weight : tuple of (int, float) or None
        Row and value of the first weight that is negative or not finite.
    sum_weight : float
    mean : ndarray of shape (n_features,)
    scatter : ndarray of shape (n_features, n_features), or (n_features,)
        sum w (x - mean)(x - mean)'; its diagonal alone where the request said so.
    by_value, by_place : Draw
        At least `sample_size` rows, where there are so many. By place, weights are the rows' own still.
    sample_size : int
    too_large : tuple of (int, int, float) or None
        Row, feature and value of the first value beyond `LARGEST_VALUE`; its row is not used.
    ranges : ndarray of shape (2, n_features), or None
        The lowest and the highest value of each feature among the rows that are used; infinity and minus infinity where
        there are none. None in checkpoints of before.
    """

    n_rows: int
    n_used: int
    n_missing: int
    first_missing: tuple[int, int] | None
    bad_weight: tuple[int, float] | None
    sum_weight: float
    mean: Floats
    scatter: Floats
    by_value: Draw
    by_place: Draw
    sample_size: int
    too_large: tuple[int, int, float] | None = None
    ranges: Floats | None = None

    @property
    def complete(self) -> bool:
        """Whether the sample by value holds every row that counts."""
        return bool(np.isclose(self.by_value.sum_weight, self.sum_weight, rtol=1e-9, atol=0.0))

    def choose_sample(self) -> Sample:
        """Return the better sample: that by value, unless too many rows are equal, or too few stand for the rest."""
        by_value = self.by_value.smallest(self.sample_size)
        enough = len(by_value) >= min(len(self.by_place), self.sample_size) // 2
        if self.complete or (enough and by_value.design_effect <= _LARGEST_DESIGN_EFFECT):
            return by_value.in_float64()
        drawn = self.by_place.smallest(self.sample_size).in_float64()
        # Horvitz & Thompson: a row of weight w was drawn with probability 1 - exp(-w t), t the largest key.
        weight = drawn.weight / -np.expm1(-drawn.weight * drawn.keys[-1])
        return Sample(drawn.keys, drawn.x, weight * (len(drawn) / weight.sum()))

    def without_draws(self) -> Survey:
        """Return the survey without the rows that it drew, which take memory."""
        return replace(self, by_value=Draw(()), by_place=Draw(()))

    @property
    def covariance(self) -> Floats:
        """The rows' covariance, divided by the sum of the weights, in the shape of the scatter."""
        return self.scatter / self.sum_weight

    @classmethod
    def merged(cls, parts: Iterable[Survey]) -> Survey:
        """Merge surveys by the pairwise update of Chan, Golub & LeVeque (1983); the sample is drawn once.

        Of a part that has been merged only what it drew is kept, so an iterator may make parts one by one.
        """
        rest = iter(parts)
        total = next(rest)
        by_value, by_place = [total.by_value], [total.by_place]
        for part in rest:
            by_value.append(part.by_value)
            by_place.append(part.by_place)
            total = total._with(part)
        return replace(
            total,
            by_value=Draw.merged(by_value, total.sample_size),
            by_place=Draw.merged(by_place, total.sample_size),
        )

    def _with(self, part: Survey) -> Survey:
        """Return what this and the rows after it say, but for the sample."""
        sum_weight = self.sum_weight + part.sum_weight
        share = part.sum_weight / sum_weight if sum_weight > 0.0 else 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            delta = part.mean - self.mean
            product = delta * delta if self.scatter.ndim == 1 else np.outer(delta, delta)
            scatter = self.scatter + part.scatter + (self.sum_weight * share) * product
        return replace(
            self,
            n_rows=self.n_rows + part.n_rows,
            n_used=self.n_used + part.n_used,
            n_missing=self.n_missing + part.n_missing,
            first_missing=self.first_missing or part.first_missing,
            too_large=self.too_large or part.too_large,
            bad_weight=self.bad_weight or part.bad_weight,
            sum_weight=sum_weight,
            mean=self.mean + share * delta,
            scatter=scatter,
            ranges=merge_ranges(self.ranges, part.ranges),
        )


def find_ranges(x: Floats) -> Floats:
    """Return the lowest and the highest value of each feature, shape (2, D)."""
    return np.stack([x.min(axis=0, initial=np.inf), x.max(axis=0, initial=-np.inf)])


def merge_ranges(one: Floats | None, other: Floats | None) -> Floats | None:
    """Return the ranges of two sets of rows together."""
    if one is None or other is None:
        return None
    return np.stack([np.minimum(one[0], other[0]), np.maximum(one[1], other[1])])


def _first_too_large(block: Block, present: npt.NDArray[np.bool_]) -> tuple[int, int, float] | None:
    """Return row, feature and value of the first finite value whose square is too large."""
    dtype = block.x.dtype
    if dtype.kind != "f" or float(np.finfo(dtype).max) <= LARGEST_VALUE:
        return None
    found = np.isfinite(block.x) & (np.abs(block.x) > LARGEST_VALUE) & present[:, np.newaxis]
    if not found.any():
        return None
    row, feature = (int(one[0]) for one in np.nonzero(found))
    return block.start + row, feature, float(block.x[row, feature])


def _survey_block(block: Block, request: SurveyRequest) -> Survey:
    x = np.asarray(block.x, dtype=np.float64)
    # What is drawn waits for the driver, and goes to it: where half the bytes hold the same values, in those.
    rows = block.x if block.x.dtype == np.float32 else x
    n = len(x)
    weight = np.ones(n) if block.sample_weight is None else np.asarray(block.sample_weight, dtype=np.float64)
    wrong = ~(np.isfinite(weight) & (weight >= 0.0))
    bad_weight = None
    if wrong.any():
        at = int(np.argmax(wrong))
        bad_weight = (block.start + at, float(weight[at]))
        weight = np.where(wrong, 0.0, weight)
    keys, finite = hash_values(x, request.seed)
    present = weight > 0.0
    used = finite & present
    too_large = _first_too_large(block, used)
    if too_large is not None:
        # There will be an error, and until then no warnings of what overflows.
        used &= (np.abs(x) <= LARGEST_VALUE).all(axis=1)
    first_missing = None
    n_missing = int((present & ~finite).sum())
    if n_missing:
        row = int(np.argmax(present & ~finite))
        first_missing = (block.start + row, int(np.argmin(np.isfinite(x[row]))))
    index = np.arange(block.start, block.start + n, dtype=np.uint64)
    if not used.all():
        x, rows, weight, index, keys = x[used], rows[used], weight[used], index[used], keys[used]
    sum_weight, mean, scatter = _moments(x, None if block.sample_weight is None else weight, request.full_scatter)
    highest = np.uint64(min(int(request.drawn_share * 2.0**64), 2**64 - 1))
    drawn = keys <= highest
    return Survey(
        n,
        int(used.sum()),
        n_missing,
        first_missing,
        bad_weight,
        sum_weight,
        mean,
        scatter,
        Draw((Sample(keys[drawn], rows[drawn], weight[drawn]),)),
        _by_place(index, rows, weight, request),
        request.sample_size,
        too_large,
        find_ranges(x),
    )


def _moments(x: Floats, weight: Floats | None, full_scatter: bool) -> tuple[float, Floats, Floats]:
    """Return sum of the weights, mean and scatter of some rows."""
    n, n_features = x.shape
    if n == 0:
        return 0.0, np.zeros(n_features), np.zeros((n_features,) * (2 if full_scatter else 1))
    # Overflow (by large weights) shows in the result.
    with np.errstate(over="ignore", invalid="ignore"):
        sum_weight = float(n) if weight is None else float(weight.sum())
        # About the first row, and then about the mean: nothing is lost where the mean is far from zero.
        origin = x[0].copy()
        centred = x - origin
        offset = ((np.ones(n) if weight is None else weight) @ centred) / sum_weight
        centred -= offset
        weighted = centred if weight is None else centred * weight[:, np.newaxis]
        scatter = weighted.T @ centred if full_scatter else (weighted * centred).sum(axis=0)
    return sum_weight, origin + offset, scatter


def _by_place(index: npt.NDArray[np.uint64], x: npt.NDArray[Any], weight: Floats, request: SurveyRequest) -> Draw:
    uniform = hash_index(index, request.seed).astype(np.float64) / 2.0**64
    if request.drawn_share >= 1.0 and request.n_rows is not None:
        # The sample by value holds all rows.
        index, x, weight, uniform = index[:0], x[:0], weight[:0], uniform[:0]
    elif (weight == 1.0).all():
        drawn = uniform <= request.drawn_share
        x, weight, uniform = x[drawn], weight[drawn], uniform[drawn]
    return Draw((Sample(-np.log1p(-uniform) / weight, x, weight),))


def survey_blocks(blocks: Iterable[Block], request: SurveyRequest) -> Survey:
    """Survey the blocks of one task, a few megabytes at a time."""
    pieces = (piece for block in blocks for piece in block.pieces(max(1, _BLOCK_BYTES // (8 * block.x.shape[1]))))
    return Survey.merged(_survey_block(piece, request) for piece in pieces)


#: Gives what is there of a pass for a request, and takes what comes of it.
PartsOf = Callable[[Any], Parts]


def survey_rows(
    rows: Rows,
    *,
    sample_size: int,
    seed: int,
    full_scatter: bool,
    missing: str,
    parts_of: PartsOf | None = None,
) -> tuple[Survey, PassCost]:
    """Read all rows once; return what they say, and what it cost.

    Raises
    ------
    MissingValuesError
        If a value is missing and ``missing="raise"``, or if no row is left.
    RowsError
        If a value is so large that its square overflows.
    InputError
        If a weight is negative or not finite, or the weights too large.
    """
    request = SurveyRequest(sample_size, seed, rows.n_rows, full_scatter)
    found: Survey
    found, cost = run_measured_pass(rows, survey_blocks, request, None if parts_of is None else parts_of(request))
    if found.bad_weight is not None:
        row, value = found.bad_weight
        raise InputError(
            f"sample_weight is {value} at {rows.provenance.place(row)}: weights must be finite and not negative "
            "(0 leaves a row out)"
        )
    if found.too_large is not None:
        raise rows.provenance.too_large_error(*found.too_large, LARGEST_VALUE)
    if found.first_missing is not None and missing == "raise":
        raise rows.provenance.missing_values_error(*found.first_missing, found.n_missing)
    if found.n_used == 0:
        raise MissingValuesError(
            f"{rows.description} has no row left to fit: of {found.n_rows} rows, {found.n_missing} have a missing "
            "value, and the weight of the others is zero"
        )
    if not (np.isfinite(found.mean).all() and np.isfinite(found.scatter).all()):
        raise InputError(
            f"sample_weight sums to {found.sum_weight:g} over {rows.description}, and times the squares of the values "
            "that is too large for float64: scale the weights so that their mean is about 1"
        )
    n_drawn = max(len(found.by_value), len(found.by_place))
    if request.drawn_share < 1.0 and n_drawn < min(sample_size, found.n_used) // 2:
        # Most rows have weight 0 or a missing value: draw again, passing over none.
        found, more = run_measured_pass(rows, survey_blocks, replace(request, n_rows=None))
        cost = cost + more
    return found, cost
