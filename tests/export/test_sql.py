"""SELECTs under DuckDB against `predict_proba` and `score_samples`; in the other dialects they can be parsed."""

import duckdb
import numpy as np
import pandas as pd
import pytest
import sqlglot

from streamgmm import GaussianMixture, InputError
from tests.estimators.test_handmade import by_hand
from tests.gaussian.test_conditional import a_mixture
from tests.helpers import FAMILY_NAMES

NAMES = ["a b", 'q"x', "C"]
DIALECTS = ("duckdb", "postgresql", "spark", "bigquery", "snowflake")


def moved(covariance_type, scale, offset, names=NAMES):
    """A mixture of some scale, far from the origin: its means have few digits left of its deviations."""
    value = a_mixture(covariance_type, scale=scale)
    return GaussianMixture.from_parameters(
        value.weights, value.means + offset, value.covariances, covariance_type=covariance_type, feature_names=names,
        missing="drop", random_state=0,
    )  # fmt: skip


def hard_rows(model):
    """Rows of the mixture, rows far out, and some with values that are none."""
    x = model.sample(600, chunks=600)[0].compute()
    deviation = np.sqrt(np.diagonal(np.cov(x.T)))
    x[:100] += 50.0 * deviation
    x[100:150] -= 1e4 * deviation
    x[150:170, 1] += 1e8 * deviation[1]
    x[200, 0], x[201, 1], x[202, 2] = np.nan, np.inf, -np.inf
    return x


def scored(model, frame, **options):
    frame = frame.assign(id=np.arange(len(frame)))
    with duckdb.connect() as connection:
        connection.register("data", frame)
        query = model.to_sql("duckdb", table="data", keep=["id"], **options)
        return connection.sql(query).df().sort_values("id").drop(columns="id").reset_index(drop=True)


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-6, 1e3), (1e6, -1e9)])
@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_duckdb_agrees_to_1e_10(covariance_type, merged, scale, offset):
    model = moved(covariance_type, scale, offset)
    model = model.merge(2, distance="wasserstein") if merged else model
    frame = pd.DataFrame(hard_rows(model), columns=NAMES)
    found = scored(model, frame)
    n = 2 if merged else 3
    assert found.columns.tolist() == ["label", "log_density", *(f"proba_{k}" for k in range(n))]
    np.testing.assert_array_equal(found["label"].fillna(-1).astype(int), model.predict(frame))
    proba = found[[f"proba_{k}" for k in range(n)]].to_numpy(dtype=float)
    np.testing.assert_allclose(proba, model.predict_proba(frame), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found["log_density"].astype(float), model.score_samples(frame), rtol=1e-10, atol=1e-10)


def test_columns_may_be_integers_decimals_and_null():
    model = GaussianMixture.from_parameters([0.5, 0.5], [[0.0], [3.0]], [[[1.0]], [[2.0]]], feature_names=["a"])
    expected = model.score_samples(pd.DataFrame({"a": [1.0, 3.0]}))
    with duckdb.connect() as connection:
        connection.sql("create table t as select * from (values (1::utinyint), (3), (null)) v(a)")
        for kind in ("utinyint", "hugeint", "decimal(9, 3)", "float"):
            connection.sql(f"create or replace view v as select a::{kind} as a from t")
            query = model.to_sql("duckdb", table="v", what="log_density")
            found = connection.sql(query).df()["log_density"]
            np.testing.assert_allclose(found[:2], expected, rtol=1e-14)
            assert pd.isna(found[2])


@pytest.mark.parametrize("what", ["label", "log_density", "responsibilities", ("log_density", "label")])
def test_only_what_is_wanted_is_selected(what):
    model = moved("full", 1.0, 0.0)
    frame = pd.DataFrame(hard_rows(model), columns=NAMES)
    everything, found = scored(model, frame), scored(model, frame, what=what)
    assert set(found.columns) < set(everything.columns)
    pd.testing.assert_frame_equal(found, everything[list(found.columns)])


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("n_components", [1, 3])
def test_every_dialect_parses_it(dialect, n_components):
    x = by_hand(random_state=0).sample(300)[0]
    model = GaussianMixture(n_components, random_state=0).fit(pd.DataFrame(x, columns=NAMES))
    query = model.to_sql(dialect, table="sales.visits", keep=["id"])
    parsed = sqlglot.parse_one(query, dialect={"postgresql": "postgres"}.get(dialect, dialect))
    assert parsed.named_selects == ["id", "label", "log_density", *(f"proba_{k}" for k in range(n_components))]
    # As other engines see it DuckDB can run it too.
    with duckdb.connect() as connection:
        connection.sql("create schema sales")
        connection.register("frame", pd.DataFrame(x, columns=NAMES).assign(id=range(len(x))))
        connection.sql("create table sales.visits as from frame")
        found = connection.sql(parsed.sql(dialect="duckdb")).df().sort_values("id")
    np.testing.assert_allclose(found["log_density"], model.score_samples(pd.DataFrame(x, columns=NAMES)), rtol=1e-12)


def test_names_of_its_own_never_meet_those_of_the_table():
    model = by_hand(feature_names=["gmm_x0", "GMM_logit1", "label"])
    frame = pd.DataFrame(model.set_params(random_state=0).sample(20)[0], columns=["gmm_x0", "GMM_logit1", "label"])
    np.testing.assert_array_equal(scored(model, frame)["label"], model.predict(frame))


def test_what_can_not_be_selected_is_said():
    model = by_hand(feature_names=["a", "b", "c"])
    for keywords, said in (
        ({"dialect": "oracle"}, "dialect must be one of 'duckdb', 'postgresql'"),
        ({"what": "cluster"}, "what must be of 'label', 'log_density', 'responsibilities'; got 'cluster'"),
        ({"what": ()}, "what must be of"),
        ({"columns": ["a"]}, "columns has 1 names; the mixture has 3 features"),
        ({"keep": "id"}, "keep must be a list of columns, got the text 'id'"),
        ({"keep": ["id", "label"]}, "keep names columns that the query makes: label"),
    ):
        with pytest.raises(InputError, match=said):
            model.to_sql(**{"dialect": "duckdb", **keywords})
    with pytest.raises(InputError, match="the features have no names"):
        by_hand().to_sql("duckdb")
    assert '"x"' in by_hand().to_sql("duckdb", columns=["x", "y", "z"])
