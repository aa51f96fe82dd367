"""DataArrays and Datasets of xarray: the rows are those of `stack`, and results are where their rows were."""

import numpy as np
import pytest
import xarray as xr

import streamgmm
from streamgmm import GaussianMixture, InputError, MissingValuesError, RowsError, write_predictions

DEPTHS = [10.0, 50.0, 100.0]
DIMS = ("time", "lat", "lon")


def profiles(missing=False):
    """Two kinds of water: (time, depth, lat, lon), the land missing."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(12, 6, 8, 3)) * [1.0, 2.0, 3.0] + 8.0 * (np.arange(12) < 6)[:, None, None, None]
    if missing:
        values[:, 0, :2] = np.nan
    coords = {
        "time": np.arange("2020-01", "2021-01", dtype="datetime64[M]").astype("datetime64[ns]"),
        "lat": np.linspace(-50, 50, 6), "lon": np.arange(8) * 45.0, "depth": DEPTHS,
        "area": ("lat", np.cos(np.radians(np.linspace(-50, 50, 6)))),
    }  # fmt: skip
    return xr.DataArray(values, coords, (*DIMS, "depth"), name="temperature").transpose("time", "depth", "lat", "lon")


def stacked(array):
    return array.transpose(*DIMS, "depth").values.reshape(-1, 3)


@pytest.fixture(scope="module")
def model():
    return GaussianMixture(2, random_state=0, missing="drop").fit(profiles(missing=True), feature_dim="depth")


CHUNKS = [None, {"time": 5}, {"time": 4, "lat": 4, "lon": 3, "depth": 1}, {"depth": 2, "lon": 5}]


@pytest.mark.parametrize("chunks", CHUNKS)
def test_a_fit_is_that_of_the_stacked_rows(chunks, model):
    array = profiles(missing=True) if chunks is None else profiles(missing=True).chunk(chunks)
    found = GaussianMixture(2, random_state=0, missing="drop").fit(array, feature_dim="depth")
    expected = GaussianMixture(2, random_state=0, missing="drop").fit(stacked(profiles(missing=True)))
    np.testing.assert_allclose(found.means_, expected.means_, rtol=1e-9)
    assert found.n_missing_ == expected.n_missing_ == 12 * 2
    assert list(found.feature_names_in_) == DEPTHS


@pytest.mark.parametrize("chunks", CHUNKS)
def test_results_are_where_their_rows_were(chunks, model):
    whole = profiles(missing=True)
    array = whole if chunks is None else whole.chunk(chunks)
    x = stacked(whole)
    plain = by_hand_of(model)
    for name, found, expected, trailing in (
        ("label", model.predict(array), plain.predict(x), ()),
        ("proba", model.predict_proba(array), plain.predict_proba(x), ("component",)),
        ("log_density", model.score_samples(array), plain.score_samples(x), ()),
        ("outlier", model.outliers(array, threshold=-8.0), plain.outliers(x, threshold=-8.0), ()),
        ("mean", model.regress(array, 50.0), plain.regress(x, 1), ("target",)),
        ("quantiles", model.regress(array, [50.0], what="quantiles"), plain.regress(x, 1, what="quantiles"),
         ("target", "quantile")),
    ):  # fmt: skip
        assert isinstance(found, xr.DataArray)
        assert found.name == name
        assert found.dims == (*DIMS, *trailing)
        for coordinate in ("time", "lat", "lon", "area"):
            xr.testing.assert_identical(found[coordinate].drop_vars("area", errors="ignore"),
                                        whole[coordinate].drop_vars("area", errors="ignore"))  # fmt: skip
        assert "depth" not in found.coords
        if chunks is None:
            assert found.chunks is None
        else:
            expected_chunks = array.transpose(*DIMS, "depth").chunks[:3]
            assert found.chunks[:3] == expected_chunks
        np.testing.assert_allclose(found.values.reshape(expected.shape), expected, rtol=1e-9, atol=1e-12)
    filled = model.impute(array)
    assert filled.dims == array.dims
    np.testing.assert_allclose(stacked(filled), plain.impute(x), rtol=1e-9)
    xr.testing.assert_allclose(filled.where(whole.notnull()), whole)
    assert model.score(array) == pytest.approx(plain.score(x))


def by_hand_of(model):
    return GaussianMixture.from_parameters(model.weights_, model.means_, model.covariances_, missing="drop")


def test_nothing_is_computed_before_it_is_asked_for(model):
    read = []

    def block(values):
        read.append(values.shape)
        return values

    array = profiles().chunk({"time": 4}).map_blocks(lambda a: a)
    array = array.copy(data=array.data.map_blocks(block, meta=np.empty((0,) * 4)))
    labels = model.predict(array)
    assert not read
    labels.isel(time=0).compute()
    assert len(read) == 1


@pytest.mark.parametrize("chunks", [None, {"time": 5, "lat": 2}])
def test_the_variables_of_a_dataset_are_features(chunks, tmp_path):
    array = profiles()
    data = array.to_dataset("depth").rename({10.0: "t10", 50.0: "t50", 100.0: "t100"})
    data["w"] = ("time", np.arange(12.0) % 3)
    data["mask"] = (("lat", "lon"), np.ones((6, 8)))
    lazy = data if chunks is None else data.chunk(chunks)
    weight = np.broadcast_to((np.arange(12.0) % 3)[:, None, None], (12, 6, 8)).ravel()
    names = ["t10", "t50", "t100"]
    expected = GaussianMixture(2, random_state=0).fit(stacked(array), sample_weight=weight)
    for found in (
        GaussianMixture(2, random_state=0).fit(lazy, sample_weight="w", columns=names),
        GaussianMixture(2, random_state=0).fit(lazy.drop_vars("mask"), sample_weight="w"),
        GaussianMixture(2, random_state=0).fit(lazy[names], sample_weight=data["w"]),
    ):
        np.testing.assert_allclose(found.means_, expected.means_, rtol=1e-9)
        assert list(found.feature_names_in_) == names
    # By name, in any order and among others.
    labels = found.predict(lazy[["mask", "t100", "w", "t10", "t50"]])
    assert labels.dims == DIMS
    np.testing.assert_array_equal(labels.values.ravel(), expected.predict(stacked(array)))
    streamgmm.save(found, tmp_path / "m")
    xr.testing.assert_identical(streamgmm.load(tmp_path / "m").predict(lazy).compute(), labels.compute())
    labels.to_zarr(tmp_path / "labels.zarr", consolidated=False)
    xr.testing.assert_equal(
        xr.open_zarr(tmp_path / "labels.zarr", consolidated=False)["label"].load(), labels.compute()
    )
    # A static variable is there at each time.
    with_mask = GaussianMixture(1).fit(lazy, columns=["t10", "mask"])
    np.testing.assert_allclose(with_mask.means_[0, 1], 1.0)


def test_a_store_that_is_opened_without_dask_is_read_by_chunk(tmp_path):
    profiles().to_dataset(name="t").chunk({"time": 3}).to_zarr(tmp_path / "t.zarr", consolidated=False)
    opened = xr.open_zarr(tmp_path / "t.zarr", chunks=None, consolidated=False)["t"]
    model = GaussianMixture(2, random_state=0).fit(opened, feature_dim="depth")
    labels = model.predict(opened)
    assert labels.chunks[0] == (3, 3, 3, 3)


def test_the_dimension_is_remembered_or_found_by_its_labels(model, tmp_path):
    streamgmm.save(model, tmp_path / "m")
    loaded = streamgmm.load(tmp_path / "m")
    xr.testing.assert_identical(loaded.predict(profiles()), model.predict(profiles()))
    made = GaussianMixture.from_parameters(model.weights_, model.means_, model.covariances_, feature_names=DEPTHS)
    xr.testing.assert_identical(made.predict(profiles()), model.predict(profiles()))
    # In the order of the fit's labels, whatever that of the array.
    xr.testing.assert_identical(model.predict(profiles().isel(depth=[2, 0, 1])), model.predict(profiles()))
    two = profiles().isel(lat=0, lon=0).transpose("time", "depth")
    assert model.predict(two).dims == ("time",)


def test_search_plan_and_merged_models_take_grids(model):
    lazy = profiles().chunk({"time": 4})
    assert streamgmm.search(lazy, [1, 2], feature_dim="depth", random_state=0).best.n_components == 2
    assert GaussianMixture(2).plan(lazy, feature_dim="depth", probe=False).n_tasks >= 1
    assert GaussianMixture(2, random_state=0).fit_predict(lazy, feature_dim="depth").dims == DIMS
    merged = model.merge(1, X=lazy)
    assert merged.predict_proba(lazy).dims == (*DIMS, "cluster")
    one = GaussianMixture(1).fit(lazy.sel(depth=[10.0]), feature_dim="depth")
    assert one.cdf(lazy.sel(depth=[10.0])).dims == DIMS


def test_what_is_no_grid_of_features_is_refused_by_name(model, tmp_path):
    array = profiles()
    data = xr.Dataset({"a": array.sel(depth=10.0, drop=True), "b": ("time", np.arange(12.0))})
    bounds = data.assign(bounds=(("time", "side"), np.zeros((12, 2))))
    fit = GaussianMixture(1).fit
    for command, said in (
        (lambda: fit(array), r"dimensions \('time', 'depth', 'lat', 'lon'\): which of them holds the features\? Say"),
        (lambda: fit(array, feature_dim="z"), "there is none such, feature_dim='z'"),
        (lambda: fit(data, feature_dim="z"), "the features of a Dataset are its variables"),
        (lambda: fit(bounds), r"not on one grid: 'a' \('time', 'lat', 'lon'\), .*'bounds' \('time', 'side'\)"),
        (lambda: fit(data.assign(name=("time", ["x"] * 12))), "variable 'name' of X has dtype <U1, which is no number"),
        (lambda: fit(data, columns=["a", "c"]), "X lacks the variable 'c'; the Dataset has 'a', 'b'"),
        (lambda: fit(data, sample_weight="w"), "sample_weight lacks the variable 'w'"),
        (lambda: fit(array, feature_dim="depth", sample_weight="w"), "names a variable, and X is a DataArray"),
        (lambda: fit(array[0, :, 0, 0], feature_dim="depth"), "there are features, and no rows"),
        (lambda: fit(array, feature_dim="depth", sample_weight=array), "sample_weight has the dimensions"),
        (lambda: model.predict(array.sel(depth=[10.0])), "X lacks 50.0, 100.0 along 'depth', where it has 10.0"),
        (lambda: fit(xr.Dataset()), "Dataset without variables"),
    ):
        with pytest.raises(RowsError, match=said):
            command()
    with pytest.raises(MissingValuesError):
        fit(profiles(missing=True), feature_dim="depth")
    with pytest.raises(InputError, match=r"model.predict\(source\) gives a DataArray"):
        write_predictions(model, array, tmp_path / "x.zarr")


def test_columns_of_a_fit_may_be_named_in_any_order():
    model = GaussianMixture.from_parameters(
        [0.5, 0.5], [[0.0, 10.0], [10.0, 0.0]], np.ones((2, 2)), covariance_type="diag", feature_names=["a", "b"]
    )
    data = xr.Dataset({"a": (("y", "x"), np.zeros((2, 3))), "b": (("y", "x"), np.full((2, 3), 10.0))})
    assert (model.predict(data, columns=["b", "a"]) == 0).all()
    assert (model.predict(data.to_dataarray("f").transpose("y", "x", "f"), columns=["b", "a"]) == 0).all()
    with pytest.raises(RowsError, match="names 'a' 2 times"):
        model.predict(data, columns=["a", "a"])


@pytest.mark.parametrize("chunks", [None, {"time": 5, "lat": 2}])
def test_weights_go_by_their_labels(chunks):
    """Whatever their order: latitudes mostly fall."""
    array = profiles().isel(lat=slice(None, None, -1))
    weight = xr.DataArray(np.arange(6.0) + 1.0, dims="lat", coords={"lat": array["lat"]})
    lazy = array if chunks is None else array.chunk(chunks)
    expected = GaussianMixture(1, random_state=0).fit(lazy, feature_dim="depth", sample_weight=weight)
    turned = weight.isel(lat=[3, 0, 5, 1, 4, 2])
    found = GaussianMixture(1, random_state=0).fit(lazy, feature_dim="depth", sample_weight=turned)
    np.testing.assert_array_equal(found.means_, expected.means_)
    by_hand = np.average(stacked(array), axis=0, weights=np.broadcast_to(weight.values[:, None], (12, 6, 8)).ravel())
    np.testing.assert_allclose(found.means_[0], by_hand, rtol=1e-9)
    with pytest.raises(RowsError, match="sample_weight lacks 1 of the 6 points of X along 'lat', first"):
        GaussianMixture(1, random_state=0).fit(lazy, feature_dim="depth", sample_weight=weight.isel(lat=slice(1, None)))


def test_parts_of_a_mixture_remember_the_dimension(model):
    array = profiles().drop_vars("depth")
    made = GaussianMixture.from_parameters(model.weights_, model.means_, model.covariances_, feature_dim="depth")
    assert made.predict(array).dims == DIMS
    part = made.marginal([1, 0])
    swapped = part.score_samples(array.isel(depth=[1, 0]))
    expected = made.marginal([0, 1]).score_samples(array.isel(depth=[0, 1]))
    xr.testing.assert_allclose(swapped, expected)
    # A square one too, whose last dimension is another.
    square = xr.DataArray(np.arange(4.0).reshape(2, 2), dims=("depth", "x"))
    assert part.score_samples(square).dims == ("x",)


def test_labels_are_told_apart(tmp_path):
    x = np.random.default_rng(0).normal(size=(50, 2)) * [1.0, 3.0]
    with pytest.raises(RowsError, match="'a' more than once along 'f'"):
        GaussianMixture(1).fit(xr.DataArray(x, dims=("r", "f"), coords={"f": ["a", "a"]}))
    days = np.array(["2020-01-01", "2020-01-02"], "M8[ns]")
    dated = xr.DataArray(x, dims=("r", "f"), coords={"f": days})
    model = GaussianMixture(1).fit(dated)
    assert list(model.feature_names_in_) == [str(day) for day in days]
    streamgmm.save(model, tmp_path / "m")
    found = streamgmm.load(tmp_path / "m").score_samples(dated[:, ::-1])
    np.testing.assert_array_equal(found, model.score_samples(dated))
