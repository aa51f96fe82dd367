"""Model files: what is saved comes back, and what is no model is refused."""

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.exceptions import NotFittedError

import streamgmm
from streamgmm import GaussianMixture, load, save
from streamgmm.exceptions import InputError, ModelFileError, OutputExistsError


@pytest.fixture
def model(x, covariance_type):
    import pandas as pd

    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    return GaussianMixture(
        3, covariance_type=covariance_type, random_state=np.int64(4), tol=np.float64(1e-3), init_params="k-means++"
    ).fit(frame)


def test_round_trip(model, x, tmp_path):
    path = tmp_path / "model.safetensors"
    streamgmm.save(model, path)
    loaded = streamgmm.load(path)
    for name in ("weights", "means", "covariances", "precisions_cholesky", "precisions", "lower_bounds"):
        np.testing.assert_array_equal(getattr(loaded, f"{name}_"), getattr(model, f"{name}_"))
    for name in ("converged_", "n_iter_", "lower_bound_", "stop_reason_", "n_missing_", "n_features_in_"):
        assert getattr(loaded, name) == getattr(model, name)
    assert list(loaded.feature_names_in_) == ["a", "b", "c"]
    assert loaded.get_params() == model.get_params()
    np.testing.assert_array_equal(loaded.score_samples(x_frame(x)), model.score_samples(x_frame(x)))
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def x_frame(x):
    import pandas as pd

    return pd.DataFrame(x, columns=["a", "b", "c"])


def test_settings_of_the_next_fit_are_not_those_of_the_file(tmp_path):
    """With as many components as features, diagonal covariances have the shape of a tied one."""
    x = np.random.default_rng(0).normal(size=(200, 2))
    model = GaussianMixture(2, covariance_type="diag", random_state=0).fit(x)
    expected = model.score_samples(x)
    model.set_params(covariance_type="tied", n_components=5)
    streamgmm.save(model, tmp_path / "m")
    found = streamgmm.load(tmp_path / "m")
    assert (found.covariance_type, found.n_components) == ("diag", 2)
    np.testing.assert_array_equal(found.score_samples(x), expected)


def test_the_same_model_gives_the_same_bytes(x, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for name in ("one", "two"):
        streamgmm.save(
            GaussianMixture(3, random_state=0, max_iter=1, tol=0, init_params="k-means++").fit(x), tmp_path / name
        )
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert streamgmm.load(tmp_path / "one").training_summary_.fitted_at == "2023-11-14T22:13:20+00:00"


def test_a_file_of_version_0_2_0_is_read():
    """Before models had names, metadata, clusters, a calibration and a summary of their training."""
    model = load(Path(__file__).parents[1] / "data" / "model-0.2.0.safetensors")
    np.testing.assert_allclose(model.weights_, [0.601453, 0.398547], atol=1e-6)
    frame = pd.DataFrame({"b": [0.0, 6.0], "a": [0.0, 5.0]})
    np.testing.assert_allclose(model.score_samples(frame), [-2.2755345830140836, -4.090220064037463], rtol=1e-12)
    assert (model.name_, model.metadata_, model.calibration_, model.training_summary_) == (None, {}, None, None)
    assert not hasattr(model, "clusters_")


def test_a_name_and_metadata_are_kept(x, tmp_path):
    model = GaussianMixture(2, random_state=0).fit(x)
    metadata = {"owner": "visits", "tags": ["a", 1, None, 2.5], "nested": {"é": True}}
    save(model, tmp_path / "m", name="visits, daily", metadata=metadata)
    loaded = load(tmp_path / "m")
    assert (loaded.name_, loaded.metadata_) == ("visits, daily", metadata)
    save(loaded, tmp_path / "m")
    assert load(tmp_path / "m").metadata_ == metadata
    assert model.metadata_ == {}
    for wrong in ({1: "a"}, {"a": {1, 2}}, {"a": float("nan")}, {"a": (1, 2)}, ["a"], "text"):
        with pytest.raises(InputError, match="metadata"):
            save(model, tmp_path / "m", metadata=wrong)
    with pytest.raises(InputError, match="the name of a model must be a text, got 3"):
        save(model, tmp_path / "m", name=3)


def test_the_summary_tells_rows_apart(x, tmp_path):
    weight = np.arange(len(x)) % 3
    one, same, other, weighted = (
        GaussianMixture(2, random_state=0, max_iter=1, tol=0, init_params="k-means++").fit(*rows).training_summary_
        for rows in ((x,), (x.copy(),), (x + 1e-9,), (x, None, weight))
    )
    assert one.fingerprint == same.fingerprint
    assert len({one.fingerprint, other.fingerprint, weighted.fingerprint}) == 3
    assert (one.n_rows, one.sum_weight, one.store) == (len(x), len(x), None)
    assert (weighted.n_rows, weighted.sum_weight) == ((weight > 0).sum(), weight.sum())
    np.save(tmp_path / "x.npy", x)
    stored = GaussianMixture(2, random_state=0).fit(tmp_path / "x.npy").training_summary_
    assert stored.store is not None
    assert stored.versions.keys() >= {"python", "streamgmm", "numpy", "numba"}
    assert datetime.fromisoformat(stored.fitted_at).tzinfo is not None


def test_any_reader_of_the_format_can_read_it(x, tmp_path):
    streamgmm.save(
        GaussianMixture(2, random_state=0, max_iter=1, tol=0, init_params="k-means++").fit(x), tmp_path / "m"
    )
    with safe_open(tmp_path / "m", framework="numpy") as file:
        header = json.loads(file.metadata()["streamgmm"])
        assert file.get_tensor("means").shape == (2, 3)
    assert header["format_version"] == 1
    assert header["parameters"]["covariance_type"] == "full"


def test_what_is_no_model_is_refused(x, tmp_path):
    path = tmp_path / "m"
    with pytest.raises(ModelFileError, match="there is no model file"):
        streamgmm.load(path)
    path.write_bytes(b"hello")
    with pytest.raises(ModelFileError, match="damaged or no model file"):
        streamgmm.load(path)
    save_file({"a": np.zeros(2)}, path)
    with pytest.raises(ModelFileError, match="holds no streamgmm model"):
        streamgmm.load(path)
    save_file({"a": np.zeros(2)}, path, metadata={"streamgmm": "{}"})
    with pytest.raises(ModelFileError, match="header can't be read"):
        streamgmm.load(path)
    save_file({"a": np.zeros(2)}, path, metadata={"streamgmm": '{"format_version": 99}'})
    with pytest.raises(ModelFileError, match=r"format 99.*upgrade"):
        streamgmm.load(path)
    save_file({"a": np.zeros(2)}, path, metadata={"streamgmm": '{"format_version": 1}'})
    with pytest.raises(ModelFileError, match="damaged"):
        streamgmm.load(path)


def test_a_truncated_file_is_refused(x, tmp_path):
    path = tmp_path / "m"
    streamgmm.save(GaussianMixture(2, random_state=0, max_iter=1, tol=0, init_params="k-means++").fit(x), path)
    whole = path.read_bytes()
    for size in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFileError):
            streamgmm.load(path)


def test_saving_needs_a_fit_and_a_folder(x, tmp_path):
    with pytest.raises(NotFittedError):
        streamgmm.save(GaussianMixture(), tmp_path / "m")
    with pytest.raises(InputError, match="is not a folder"):
        streamgmm.save(GaussianMixture(random_state=0).fit(x), tmp_path / "nowhere" / "m")


def test_only_a_model_is_replaced_without_being_told(x, tmp_path):
    """A mistyped name may be that of somebody's data."""
    model = GaussianMixture(2, random_state=0).fit(x)
    data = tmp_path / "rows.parquet"
    data.write_bytes(b"PAR1 rows PAR1")
    with pytest.raises(OutputExistsError, match=r"rows\.parquet exists and is not a streamgmm model.*overwrite"):
        save(model, data)
    assert data.read_bytes() == b"PAR1 rows PAR1"
    save(model, data, overwrite=True)
    # Now it is one.
    save(GaussianMixture(3, random_state=0).fit(x), data)
    assert len(load(data).weights_) == 3


def test_in_an_object_store_too(x):
    import fsspec

    model = GaussianMixture(2, random_state=0).fit(x)
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe_file("/models/data", b"not a model")
    with pytest.raises(OutputExistsError, match="not a streamgmm model"):
        save(model, "memory://models/data")
    assert filesystem.cat_file("/models/data") == b"not a model"
    save(model, "memory://models/model")
    save(model, "memory://models/model")
    assert len(load("memory://models/model").weights_) == 2


def test_arguments_in_the_wrong_order_are_named(x, tmp_path):
    model = GaussianMixture(2, random_state=0).fit(x)
    with pytest.raises(InputError, match=r"save\(model, path\): the first argument .* got 'm.safetensors', a str"):
        save("m.safetensors", model)


def test_what_is_no_model_is_called_what_it_is(tmp_path):
    (tmp_path / "labels.zarr").mkdir()
    with pytest.raises(ModelFileError, match=r"labels\.zarr is a folder, and no model file"):
        load(tmp_path / "labels.zarr")


def test_a_model_that_was_pickled_by_an_earlier_version_is_saved(x, tmp_path):
    model = GaussianMixture(2, init_params="kmeans", random_state=0).fit(x)
    for name in ("name_", "metadata_", "training_summary_", "calibration_"):
        delattr(model, name)
    save(model.merge(1), tmp_path / "m")
    assert load(tmp_path / "m").metadata_ == {}
    assert str(model).startswith("GaussianMixture of 2 components")
