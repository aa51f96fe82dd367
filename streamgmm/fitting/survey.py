"""The survey, the first pass of a fit: counts, mean and covariance, a uniform sample, what is wrong with the rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import InputError, MissingValuesError
from streamgmm.mixture.arrays import Floats
from streamgmm.passes import run_pass
from streamgmm.rows.base import Block, Rows

_BLOCK_BYTES = 4 * 2**20


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


@dataclass(frozen=True)
class Sample:
    """Rows drawn uniformly, without regard to order or layout: those with the smallest hash of their index."""

    keys: npt.NDArray[np.uint64]
    x: Floats
    weight: Floats

    @classmethod
    def smallest(cls, samples: Sequence[Sample], size: int) -> Sample:
        """Return the `size` rows with the smallest keys of several samples."""
        keys = np.concatenate([sample.keys for sample in samples])
        order = np.argsort(keys, kind="stable")[:size]
        x = np.concatenate([sample.x for sample in samples])
        return cls(keys[order], x[order], np.concatenate([sample.weight for sample in samples])[order])

    def sorted(self) -> Sample:
        """Return the same rows in the order of their values.

        A start that draws along the cumulated weights of the rows is then the same for any order of the rows, and for a
        row of weight 2 as for two rows.
        """
        order = np.lexsort(self.x.T[::-1])
        return Sample(self.keys[order], self.x[order], self.weight[order])


@dataclass(frozen=True)
class Survey:
    """What one reading of some rows says about them; adds up with `+`.

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
    scatter : ndarray of shape (n_features, n_features)
        sum w (x - mean)(x - mean)'; only its diagonal where the request said so.
    sample : Sample
    sample_size : int
    """

    n_rows: int
    n_used: int
    n_missing: int
    first_missing: tuple[int, int] | None
    bad_weight: tuple[int, float] | None
    sum_weight: float
    mean: Floats
    scatter: Floats
    sample: Sample
    sample_size: int

    @property
    def covariance(self) -> Floats:
        """The rows' covariance, divided by the sum of the weights: shape (n_features, n_features)."""
        return self.scatter / self.sum_weight

    def __add__(self, other: Survey) -> Survey:
        """Merge with the survey of other rows."""
        if not isinstance(other, Survey):
            return NotImplemented
        return Survey.merged([self, other])

    @classmethod
    def merged(cls, parts: Sequence[Survey]) -> Survey:
        """Merge surveys by the pairwise update of Chan, Golub & LeVeque (1983); the sample is drawn once."""
        mean, scatter, total = parts[0].mean, parts[0].scatter, parts[0].sum_weight
        for part in parts[1:]:
            before, total = total, total + part.sum_weight
            share = part.sum_weight / total if total > 0.0 else 0.0
            delta = part.mean - mean
            mean = mean + share * delta
            scatter = scatter + part.scatter + (before * share) * np.outer(delta, delta)
        return cls(
            sum(part.n_rows for part in parts),
            sum(part.n_used for part in parts),
            sum(part.n_missing for part in parts),
            next((part.first_missing for part in parts if part.first_missing), None),
            next((part.bad_weight for part in parts if part.bad_weight), None),
            total,
            mean,
            scatter,
            Sample.smallest([part.sample for part in parts], parts[0].sample_size),
            parts[0].sample_size,
        )


def hashed(index: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    """Hash row indices: the finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), a bijection for each seed."""
    with np.errstate(over="ignore"):
        z = index + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _highest_key(request: SurveyRequest) -> np.uint64:
    """Return a key that, but for one chance in 1e15, no row of the sample exceeds."""
    if request.n_rows is None or request.n_rows <= request.sample_size:
        return np.uint64(2**64 - 1)
    # The count of keys below t n / 2^64 is Poisson; eight standard deviations of it, and rows that can't be used come
    # on top: they are met by keeping twice as many.
    expected = 2.0 * (request.sample_size + 8.0 * np.sqrt(request.sample_size) + 64.0)
    return np.uint64(min(expected / request.n_rows, 1.0) * float(2**64 - 2**12))


def _survey_block(block: Block, request: SurveyRequest) -> Survey:
    x = np.asarray(block.x, dtype=np.float64)
    n, n_features = x.shape
    weight = np.ones(n) if block.sample_weight is None else np.asarray(block.sample_weight, dtype=np.float64)
    wrong = ~(np.isfinite(weight) & (weight >= 0.0))
    bad_weight = None
    if wrong.any():
        at = int(np.argmax(wrong))
        bad_weight = (block.start + at, float(weight[at]))
        weight = np.where(wrong, 0.0, weight)
    finite = np.isfinite(x).all(axis=1)
    present = weight > 0.0
    used = finite & present
    first_missing = None
    n_missing = int((present & ~finite).sum())
    if n_missing:
        row = int(np.argmax(present & ~finite))
        first_missing = (block.start + row, int(np.argmin(np.isfinite(x[row]))))
    index = np.arange(block.start, block.start + n, dtype=np.uint64)
    if not used.all():
        x, weight, index = x[used], weight[used], index[used]
    sum_weight = float(weight.sum())
    if len(x):
        # About the first row, and then about the mean: nothing is lost where the mean is far from zero.
        origin = x[0].copy()
        centred = x - origin
        offset = (weight @ centred) / sum_weight
        centred -= offset
        mean = origin + offset
        weighted = centred if block.sample_weight is None else centred * weight[:, np.newaxis]
        scatter = weighted.T @ centred if request.full_scatter else np.diag((weighted * centred).sum(axis=0))
    else:
        mean, scatter = np.zeros(n_features), np.zeros((n_features, n_features))
    keys = hashed(index, request.seed)
    drawn = keys <= _highest_key(request)
    keys, rows, weights = keys[drawn], x[drawn], weight[drawn]
    if len(keys) > request.sample_size:
        order = np.argpartition(keys, request.sample_size)[: request.sample_size]
        keys, rows, weights = keys[order], rows[order], weights[order]
    order = np.argsort(keys, kind="stable")
    sample = Sample(keys[order], rows[order], weights[order])
    return Survey(
        n, int(used.sum()), n_missing, first_missing, bad_weight, sum_weight, mean, scatter, sample, request.sample_size
    )


def survey_blocks(blocks: Iterable[Block], request: SurveyRequest) -> Survey:
    """Survey the blocks of one task, a few megabytes at a time."""
    return Survey.merged([_survey_block(piece, request) for block in blocks for piece in _pieces(block)])


def _pieces(block: Block) -> Iterator[Block]:
    step = max(1, _BLOCK_BYTES // (8 * block.x.shape[1]))
    for start in range(0, max(len(block.x), 1), step):
        rows = slice(start, start + step)
        weight = None if block.sample_weight is None else block.sample_weight[rows]
        yield Block(block.x[rows], weight, block.start + start)


def survey(rows: Rows, *, sample_size: int, seed: int, full_scatter: bool, missing: str) -> Survey:
    """Read all rows once.

    Raises
    ------
    MissingValuesError
        If a value is missing and ``missing="raise"``, or if no row is left.
    InputError
        If a weight is negative or not finite.
    """
    request = SurveyRequest(sample_size, seed, rows.n_rows, full_scatter)
    found: Survey = run_pass(rows, survey_blocks, request)
    if found.bad_weight is not None:
        row, value = found.bad_weight
        raise InputError(
            f"sample_weight is {value} at {rows.provenance.place(row)}: weights must be finite and not negative "
            "(0 leaves a row out)"
        )
    if found.first_missing is not None and missing == "raise":
        raise rows.provenance.missing_values_error(*found.first_missing, found.n_missing)
    if found.n_used == 0:
        raise MissingValuesError(
            f"{rows.description} has no row left to fit: of {found.n_rows} rows, {found.n_missing} have a missing "
            "value, and the weight of the others is zero"
        )
    if len(found.sample.x) < min(sample_size, found.n_used):
        # Most rows have weight 0 or a missing value: draw again, passing over none.
        found = cast(Survey, run_pass(rows, survey_blocks, replace(request, n_rows=None)))
    return replace(found, sample=found.sample.sorted())
