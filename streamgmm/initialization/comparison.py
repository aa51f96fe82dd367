"""Fits to the same rows, compared: which are at one optimum, which can't be told apart, which leave nothing to find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamgmm.components.split import find_splits
from streamgmm.em.passes import RowsInMemory
from streamgmm.em.state import Problem, State
from streamgmm.gaussian.e_step import evaluate
from streamgmm.typing import Floats

#: Two fits are the same if their log-densities of a row differ by less than this, nats in the mean square.
_SAME = 0.05
#: Fits are undecided if their mean log-likelihoods differ by less than so many standard errors of the difference.
_STANDARD_ERRORS = 2.0
#: A split describes something if it gains so many times what it would gain of noise. (Seen: up to 5 where the data is
#: a mixture with as many components, over 6 elsewhere.)
_TIMES_NOISE = 4.0


@dataclass(frozen=True)
class Comparison:
    """Fits to the same rows, and what each says of every row.

    Attributes
    ----------
    states : tuple of State
    log_prob : ndarray of shape (n_states, n_rows)
        Log-densities, nats.
    share : ndarray of shape (n_rows,)
        Of each row in the sum of weights.
    """

    states: tuple[State, ...]
    log_prob: Floats
    share: Floats

    @property
    def best(self) -> State:
        """The first, which is the best once the fits are sorted."""
        return self.states[0]

    def complete(self) -> Comparison:
        """Leave out fits that have lost more components than others: they are second to any that has not."""
        n_components = [state.safe.n_components for state in self.states]
        return self._take([at for at, n in enumerate(n_components) if n == max(n_components)])

    def distinct(self) -> Comparison:
        """Sort fits, the best first, and leave out those that are at the same optimum as a better one."""
        kept: list[int] = []
        for at in sorted(range(len(self.states)), key=lambda at: -self.states[at].lower_bound):
            if all(self._difference(at, other)[1] > _SAME for other in kept):
                kept.append(at)
        return self._take(kept)

    def indistinguishable(self) -> Comparison:
        """Keep of fits, the best first, those whose likelihood the rows can't tell from the best's."""
        n_rows = len(self.share)
        differences = [self._difference(0, at) for at in range(len(self.states))]
        return self._take(
            [
                at
                for at, (mean, spread) in enumerate(differences)
                if at == 0 or mean < _STANDARD_ERRORS * spread / np.sqrt(n_rows)
            ]
        )

    def count_same(self, state: State) -> int:
        """Return how many of the fits are at the optimum of one of them, itself with them."""
        at = next(at for at, one in enumerate(self.states) if one is state)
        return sum(self._difference(at, other)[1] <= _SAME for other in range(len(self.states)))

    def _difference(self, at: int, other: int) -> tuple[float, float]:
        """Return mean and standard deviation over rows of how much larger one log-density is than another."""
        difference = self.log_prob[at] - self.log_prob[other]
        mean = float(self.share @ difference)
        return mean, float(np.sqrt(self.share @ (difference - mean) ** 2))

    def _take(self, which: list[int]) -> Comparison:
        return Comparison(tuple(self.states[at] for at in which), self.log_prob[which], self.share)


def compare_fits(problem: Problem, states: Sequence[State], rows: RowsInMemory) -> Comparison:
    """Evaluate fits on the same rows, each once."""
    z = rows.whiten(problem.whitening)
    log_prob = np.stack([evaluate(z, state.safe, log_prob=True).log_prob for state in states])
    return Comparison(tuple(states), log_prob, rows.weight / rows.sum_weight)


def is_well_described(problem: Problem, state: State, rows: RowsInMemory) -> bool:
    """Tell whether no component gains more by a split than its parameters fit of the noise: nothing is left to find.

    By Wilks' theorem q parameters more gain q / 2 nats in all where they describe nothing.
    """
    parameters = state.safe
    n_columns = parameters.family.n_terms(parameters.n_features)
    found = find_splits(problem, parameters, rows, np.random.default_rng(problem.seed))
    noise = [n_columns * parameters.weights[split.component] / (2.0 * split.n_rows) for split in found]
    return all(split.gain < _TIMES_NOISE * gain for split, gain in zip(found, noise, strict=True))
