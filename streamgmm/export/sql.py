"""A mixture as one SELECT, for a database to score its own rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from streamgmm.exceptions import InputError
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.typing import Floats, Integers

#: Dialects, by their usual names and by those of sqlglot.
DIALECTS = {
    "duckdb": "duckdb",
    "postgresql": "postgres",
    "postgres": "postgres",
    "spark": "spark",
    "bigquery": "bigquery",
    "snowflake": "snowflake",
}
WHAT = ("label", "log_density", "responsibilities")
#: The exponential of less is 0 next to 1, and PostgreSQL calls an underflow an error.
_SMALLEST_EXPONENT = -700.0


def build_sql(
    parameters: MixtureParameters,
    columns: Sequence[str],
    clusters: Integers | None = None,
    *,
    dialect: str,
    what: str | Sequence[str] = WHAT,
    table: str = "rows",
    keep: Sequence[str] = (),
) -> str:
    """Return a SELECT of what a mixture says of the rows of a table.

    Parameters
    ----------
    parameters : MixtureParameters
    columns : sequence of str
        The columns that are the features, in the order of these.
    clusters : ndarray of shape (n_components,), optional
        The cluster of each component: labels and probabilities are then of these.
    dialect : str
        One of `DIALECTS`.
    what : str or sequence of str
        Of `WHAT`: the columns "label", "log_density" and "proba_0", "proba_1", ...
    table : str
        Its name, with its schema if need be.
    keep : sequence of str
        Columns to carry over.

    Raises
    ------
    InputError
    """
    if dialect not in DIALECTS:
        raise InputError(f"dialect must be one of {', '.join(map(repr, DIALECTS))}; got {dialect!r}")
    wanted = [what] if isinstance(what, str) else list(what)
    if not wanted or not set(wanted) <= set(WHAT):
        raise InputError(f"what must be of {', '.join(map(repr, WHAT))}; got {what!r}")
    if len(columns) != parameters.n_features:
        raise InputError(f"columns has {len(columns)} names; the mixture has {parameters.n_features} features")
    if isinstance(keep, str):
        raise InputError(f"keep must be a list of columns, got the text {keep!r}")
    from sqlglot import exp

    query = _Query(exp, parameters, clusters, columns, keep)
    made = query.build(wanted, exp.to_table(table, dialect=DIALECTS[dialect]))
    return str(made.sql(dialect=DIALECTS[dialect], pretty=True))


class _Query:
    """Writes down the query from the inside out: each SELECT adds columns to those of the one in it.

    The features as float64, NULL where one is not finite; the logit of each component; the largest of them; all
    relative to that; their sum; the probabilities.
    """

    def __init__(
        self,
        exp: Any,
        parameters: MixtureParameters,
        clusters: Integers | None,
        columns: Sequence[str],
        keep: Sequence[str],
    ) -> None:
        self.exp, self.parameters, self.clusters = exp, parameters, clusters
        self.columns, self.keep = columns, keep
        taken = [name.lower() for name in (*columns, *keep)]
        # Names of its own begin so, and no other does.
        self.prefix = "gmm_"
        while any(name.startswith(self.prefix) for name in taken):
            self.prefix += "_"

    def build(self, wanted: list[str], table: Any) -> Any:
        components = range(self.parameters.n_components)
        features = [self.own(f"x{j}") for j in range(len(self.columns))]
        logits, shares = ([self.own(f"{name}{k}") for k in components] for name in ("logit", "share"))
        largest, total, best = self.own("largest"), self.own("total"), self.own("best")
        with_probabilities = "responsibilities" in wanted or ("label" in wanted and self.clusters is not None)
        inner = self.select([], zip(map(self.finite, self.columns), features, strict=True), table)
        inner = self.select([], zip(self.logits(features), logits, strict=True), inner)
        inner = self.select(logits, [(self.greatest(logits), largest)], inner)
        carried = [*logits, largest] if self.clusters is None else [largest]
        if with_probabilities or "log_density" in wanted:
            inner = self.select(
                carried, [(self.share(logit, largest), own) for logit, own in zip(logits, shares, strict=True)], inner
            )
            inner = self.select([*carried, *shares], [(self.sum(map(self.column, shares)), total)], inner)
            carried += [total]
        probabilities: list[str] = []
        if with_probabilities:
            found = list(self.probabilities(shares, total))
            probabilities = [self.own(f"proba{c}") for c in range(len(found))]
            inner = self.select(carried, zip(found, probabilities, strict=True), inner)
            carried += probabilities
        if self.clusters is None:
            candidates, best = logits, largest
        else:
            candidates = probabilities
            if "label" in wanted:
                inner = self.select(carried, [(self.greatest(probabilities), best)], inner)
        results = {
            "label": lambda: [(self.label(candidates, best), "label")],
            "log_density": lambda: [
                (self.plus(self.column(largest), self.exp.Ln(this=self.column(total))), "log_density")
            ],
            "responsibilities": lambda: [(self.column(p), f"proba_{c}") for c, p in enumerate(probabilities)],
        }
        columns = [column for one in wanted for column in results[one]()]
        clash = {name for _, name in columns} & set(self.keep)
        if clash:
            raise InputError(f"keep names columns that the query makes: {', '.join(sorted(clash))}")
        return self.select([], columns, inner)

    # Parts of a query

    def own(self, name: str) -> str:
        return self.prefix + name

    def column(self, name: str) -> Any:
        return self.exp.column(self.exp.to_identifier(name, quoted=True))

    def select(self, carried: Iterable[str], made: Iterable[tuple[Any, str]], source: Any) -> Any:
        columns = [self.column(name) for name in (*self.keep, *carried)]
        columns += [self.exp.alias_(expression, name, quoted=True) for expression, name in made]
        if isinstance(source, self.exp.Select):
            source = source.subquery(self.own("inner"))
        return self.exp.select(*columns).from_(source)

    def number(self, value: float) -> Any:
        # With an exponent it is a float64 everywhere, and not a decimal; 17 digits are all of it.
        literal = self.exp.Literal.number(f"{abs(value):.16e}")
        return self.exp.Neg(this=literal) if value < 0.0 else literal

    def plus(self, one: Any, other: Any) -> Any:
        return self.exp.Add(this=one, expression=other)

    def minus(self, one: Any, other: Any) -> Any:
        return self.exp.Sub(this=one, expression=other)

    def times(self, one: Any, other: Any) -> Any:
        return self.exp.Mul(this=one, expression=other)

    def sum(self, terms: Iterable[Any]) -> Any:
        return reduce(self.plus, terms)

    def greatest(self, names: Sequence[str]) -> Any:
        first, *others = map(self.column, names)
        return self.exp.Greatest(this=first, expressions=others) if others else first

    # The mixture

    def finite(self, name: str) -> Any:
        """NULL for NaN and infinities, for which x - x is not 0."""
        value = self.exp.cast(self.column(name), "double")
        is_finite = self.exp.EQ(
            this=self.exp.paren(self.minus(value.copy(), value.copy())), expression=self.number(0.0)
        )
        return self.exp.Case().when(is_finite, value)

    def logits(self, features: Sequence[str]) -> Iterable[Any]:
        """Give log(weight) + log-density of each component."""
        parameters, n_features = self.parameters, len(features)
        log_det = parameters.family.log_det_precisions_cholesky(parameters.precisions_cholesky, n_features)
        constants = np.log(parameters.weights) + log_det - 0.5 * n_features * np.log(2.0 * np.pi)
        factors = parameters.full_precisions_cholesky()
        for constant, mean, factor in zip(constants, parameters.means, factors, strict=True):
            squares = [
                self.exp.Pow(this=self.standard(features, mean, factor[:, j]), expression=self.number(2.0))
                for j in range(n_features)
            ]
            half = self.times(self.number(0.5), self.exp.paren(self.sum(squares)))
            yield self.minus(self.number(float(constant)), half)

    def standard(self, features: Sequence[str], mean: Floats, factor: Floats) -> Any:
        """Write a coordinate of a row in which the component is standard normal."""
        return self.sum(
            self.times(
                self.number(float(factor[i])),
                self.exp.paren(self.minus(self.column(features[i]), self.number(float(mean[i])))),
            )
            for i in np.flatnonzero(factor).tolist()
        )

    def share(self, logit: str, largest: str) -> Any:
        """exp(logit - largest), and 0 where that underflows."""
        below = self.minus(self.column(logit), self.column(largest))
        tiny = self.exp.LT(this=below, expression=self.number(_SMALLEST_EXPONENT))
        return self.exp.Case().when(tiny, self.number(0.0)).else_(self.exp.Exp(this=below.copy()))

    def probabilities(self, shares: Sequence[str], total: str) -> Iterable[Any]:
        """Give the probability of each component, or of each cluster."""
        clusters = np.arange(len(shares)) if self.clusters is None else self.clusters
        for cluster in range(int(clusters.max()) + 1):
            members = self.sum(self.column(shares[k]) for k in np.flatnonzero(clusters == cluster).tolist())
            yield self.exp.Div(this=self.exp.paren(members), expression=self.column(total))

    def label(self, candidates: Sequence[str], best: str) -> Any:
        """Write the number of the first that is the best; NULL where nothing is."""
        found = self.exp.Case()
        for number, name in enumerate(candidates):
            equal = self.exp.EQ(this=self.column(name), expression=self.column(best))
            found = found.when(equal, self.exp.Literal.number(number))
        return found
