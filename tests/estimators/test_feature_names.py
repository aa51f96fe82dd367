"""Names: features are taken by name from tables of every kind, and a model file keeps what they are."""

import warnings

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import streamgmm
from streamgmm import GaussianMixture
from streamgmm.exceptions import RowsError

RNG = np.random.default_rng(0)
# Far from each other: a feature in another's place is seen.
FRAME = pd.DataFrame(RNG.normal([0.0, 100.0, 1e4], 1.0, (200, 3)), columns=["a", "b", "id"]).assign(
    w=RNG.integers(1, 4, 200).astype(float)
)
KINDS = ["pandas", "arrow", "batch", "polars", "dask", "parquet", "parquet folder"]


def as_kind(frame, kind, folder):
    table = pa.Table.from_pandas(frame, preserve_index=False)
    if kind == "pandas":
        return frame
    if kind == "arrow":
        return table
    if kind == "batch":
        return table.combine_chunks().to_batches()[0]
    if kind == "polars":
        return pytest.importorskip("polars").from_arrow(table)
    if kind == "dask":
        return dd.from_pandas(frame, npartitions=2)
    path = folder / "_".join(map(str, frame.columns))
    path.mkdir()
    for number in range(2):
        pq.write_table(table.slice(100 * number, 100), path / f"{number}.parquet")
    return path if kind == "parquet folder" else [path / "0.parquet", path / "1.parquet"]


@pytest.fixture(scope="module")
def fitted():
    return GaussianMixture(1).fit(FRAME[["a", "b"]])


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_taken_by_name_and_the_rest_ignored(kind, fitted, tmp_path):
    """Whatever the order of the columns, and whatever the library at the fit."""
    expected = fitted.score(FRAME[["a", "b"]])
    for columns in (["a", "b"], ["b", "a"], ["id", "b", "w", "a"]):
        source = as_kind(FRAME[columns], kind, tmp_path)
        assert fitted.score(source) == pytest.approx(expected, rel=1e-12)
        np.testing.assert_allclose(np.asarray(fitted.score_samples(source)), fitted.score_samples(FRAME), rtol=1e-12)
    here = GaussianMixture(1).fit(as_kind(FRAME[["w", "b", "id", "a"]], kind, tmp_path), columns=["a", "b"])
    assert here.feature_names_in_.tolist() == ["a", "b"]
    assert here.score(FRAME[["id", "b", "a"]]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_feature_that_is_not_there_is_named(kind, fitted, tmp_path):
    with pytest.raises(RowsError, match=r"has no column 'b', one of the feature names .*fitted to; it has 'a', 'id'"):
        fitted.predict(as_kind(FRAME[["a", "id"]], kind, tmp_path))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_a_column_do_not_change_what_the_features_are(kind, fitted, tmp_path):
    source = as_kind(FRAME[["id", "b", "a", "w"]], kind, tmp_path)
    weighted = np.average(fitted.score_samples(FRAME), weights=FRAME["w"])
    assert fitted.score(source, sample_weight="w") == pytest.approx(weighted, rel=1e-9)
    assert fitted.bic(source, sample_weight="w") == pytest.approx(
        fitted.bic(FRAME[["a", "b"]], sample_weight=FRAME["w"].to_numpy()), rel=1e-9
    )


def test_columns_of_an_evaluation(fitted):
    """The features' own names in any order; other names stand for the features, in theirs; no mixture of both."""
    expected = fitted.score(FRAME)
    assert fitted.score(FRAME, columns=["b", "a"]) == expected
    renamed = FRAME.rename(columns={"a": "x", "b": "y"})
    assert fitted.score(renamed, columns=["x", "y"]) == expected
    with pytest.raises(RowsError, match=r"fitted to the feature names 'a', 'b', and 'w' is none of them"):
        fitted.score(FRAME, columns=["a", "w"])
    with pytest.raises(RowsError, match=r"fitted to the feature names 'a', 'b', and columns= names 1"):
        fitted.score(FRAME, columns=["a"])


NAMELESS = {
    "array": lambda x, folder: x,
    "list": lambda x, folder: x.tolist(),
    "dask": lambda x, folder: da.from_array(x, chunks=(50, 2)),
    "npy": lambda x, folder: saved(x, folder),
}


def saved(x, folder):
    np.save(folder / "x.npy", x)
    return folder / "x.npy"


@pytest.mark.parametrize("kind", NAMELESS)
def test_rows_without_names_warn_as_scikit_learn_does(kind, fitted, tmp_path):
    source = NAMELESS[kind](FRAME[["a", "b"]].to_numpy(), tmp_path)
    with pytest.warns(UserWarning, match="X does not have valid feature names, but GaussianMixture was fitted with"):
        assert fitted.score(source) == pytest.approx(fitted.score(FRAME))


@pytest.mark.parametrize("kind", KINDS)
def test_tables_for_a_model_without_names_warn_and_are_read_by_place(kind, tmp_path):
    model = GaussianMixture(1).fit(FRAME[["a", "b"]].to_numpy())
    source = as_kind(FRAME[["a", "b"]], kind, tmp_path)
    with pytest.warns(UserWarning, match="X has feature names, but GaussianMixture was fitted without feature names"):
        score = model.score(source)
    assert score == pytest.approx(model.score(FRAME[["a", "b"]].to_numpy()))
    assert model.score(source, columns=["a", "b"]) == pytest.approx(score)  # said so, no warning


def test_numbers_that_pandas_gives_where_there_are_no_names(tmp_path):
    """They don't stand in the way of an array or of names; columns that were chosen by number are found by it."""
    x = FRAME[["a", "b"]].to_numpy()
    model = GaussianMixture(1).fit(pd.DataFrame(x))
    expected = model.score(x)
    assert model.score(pd.DataFrame(x)[[1, 0]]) == pytest.approx(expected)
    with pytest.warns(UserWarning, match="fitted without feature names"):
        assert model.score(FRAME[["a", "b"]]) == pytest.approx(expected)
    chosen = GaussianMixture(1).fit(FRAME.set_axis([0, 1, 2, 3], axis=1), columns=[1, 0])
    assert chosen.score(FRAME.set_axis([0, 1, 2, 3], axis=1)) == pytest.approx(expected)
    # pandas writes numbers as texts.
    pd.DataFrame(x, columns=["1", "0"]).to_parquet(tmp_path / "x.parquet")
    assert model.score(tmp_path / "x.parquet") == pytest.approx(model.score(x[:, ::-1]))
    columns = pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])
    nested = GaussianMixture(1).fit(pd.DataFrame(x, columns=columns))
    assert nested.score(pd.DataFrame(x, columns=columns)[[("a", 2), ("a", 1)]]) == pytest.approx(expected)


NAMES = {
    "texts": ["a", "b"],
    "numbers": [0, 1],
    "other numbers": [7, 3],
    "both": ["a", 1],
    "tuples": [("a", 1), ("a", 2)],
}


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("weight", [None, "w"])
@pytest.mark.parametrize("library", ["pandas", "dask"])
def test_a_model_file_keeps_names_with_their_types_and_the_weights(names, weight, library, tmp_path):
    frame = pd.DataFrame(FRAME[["a", "b"]].to_numpy())
    frame.columns = NAMES[names] if names != "tuples" else pd.MultiIndex.from_tuples(NAMES[names])
    if weight is not None and names != "tuples":
        frame["w"] = FRAME["w"]
    source = dd.from_pandas(frame, npartitions=2) if library == "dask" else frame
    model = GaussianMixture(1).fit(source, sample_weight=weight if "w" in frame else None)
    streamgmm.save(model, tmp_path / "m")
    loaded = streamgmm.load(tmp_path / "m")
    assert loaded.feature_names_in_.tolist() == model.feature_names_in_.tolist() == NAMES[names]
    assert [type(name) for name in loaded.feature_names_in_] == [type(name) for name in NAMES[names]]
    assert loaded.score(source) == model.score(source)
    assert loaded._schema == model._schema
    streamgmm.save(loaded, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "m").read_bytes()


@pytest.mark.parametrize("json_asked", [False, True])
def test_the_command_line_shows_names_of_any_type(json_asked, tmp_path):
    from click.testing import CliRunner

    from streamgmm.cli.main import main

    frame = pd.DataFrame(FRAME[["a", "b"]].to_numpy(), columns=pd.MultiIndex.from_tuples([("a", 1), (2, "b")]))
    streamgmm.save(GaussianMixture(1).fit(frame), tmp_path / "m")
    result = CliRunner().invoke(main, ["info", str(tmp_path / "m"), *(["--json"] if json_asked else [])])
    assert result.exit_code == 0, result.output
    assert ('[["a", 1], [2, "b"]]' if json_asked else "('a', 1), (2, 'b')") in result.stdout


@pytest.mark.parametrize("names", [[5, 7], [("a", 1), ("a", 2)]])
def test_a_feature_that_never_varies_is_named_whatever_its_name_is(names):
    frame = pd.DataFrame({0: FRAME["a"], 1: 3.0})
    frame.columns = pd.MultiIndex.from_tuples(names) if isinstance(names[0], tuple) else names
    with pytest.raises(streamgmm.exceptions.SingularCovarianceError, match="never vary") as caught:
        GaussianMixture(1, reg_covar=0).fit(frame)
    assert str(names[1]) in str(caught.value)


def test_an_embedding_is_found_by_its_column_and_its_weights_are_left_out(tmp_path):
    x = FRAME[["a", "b"]].to_numpy()
    table = pa.table({"v": list(x), "w": FRAME["w"].to_numpy(), "key": np.arange(200)})
    model = GaussianMixture(1).fit(table, columns=["v"], sample_weight="w")
    assert not hasattr(model, "feature_names_in_")
    streamgmm.save(model, tmp_path / "m")
    for one in (model, streamgmm.load(tmp_path / "m")):
        assert one.score(table) == pytest.approx(model.score(x))
        with pytest.raises(RowsError, match="no column 'v', the column of lists that the model was fitted to"):
            one.score(table.drop_columns("v"))


def test_weights_of_a_table_without_names_in_the_model_are_left_out_again(tmp_path):
    """A file of numbered columns, and weights: the same table gives the same features after loading."""
    frame = FRAME[["a", "b", "w"]]
    model = GaussianMixture(1).fit(frame, sample_weight="w")
    streamgmm.save(model, tmp_path / "m")
    loaded = streamgmm.load(tmp_path / "m")
    assert loaded.score(frame) == model.score(frame)
    assert loaded.score(frame, sample_weight="w") == model.score(frame, sample_weight="w")


def test_a_model_that_was_saved_before_keeps_its_names(tmp_path):
    """Files that know nothing of weights or lists."""
    import json

    from safetensors import safe_open
    from safetensors.numpy import save_file

    streamgmm.save(GaussianMixture(1).fit(FRAME[["a", "b"]]), tmp_path / "new")
    with safe_open(tmp_path / "new", framework="numpy") as file:
        header = json.loads(file.metadata()["streamgmm"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for key in ("list_column", "weight_column", "checksum", "has_checksum"):
        del header[key]
    save_file(arrays, tmp_path / "old", metadata={"streamgmm": json.dumps(header)})
    loaded = streamgmm.load(tmp_path / "old")
    assert loaded.score(FRAME) == streamgmm.load(tmp_path / "new").score(FRAME)


def test_a_fit_to_other_rows_forgets_the_names():
    model = GaussianMixture(1).fit(FRAME[["a", "b"]])
    model.fit(FRAME[["a", "b"]].to_numpy())
    assert not hasattr(model, "feature_names_in_")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.score(FRAME[["b", "a"]].to_numpy())
