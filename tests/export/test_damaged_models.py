"""A model file that is damaged is refused, or means what it meant.

"Means what it meant": every parameter, array, name and number of the fit is the same to the bit, and so are predictions
and scores. What may differ is what `load` passes over: entries that it does not know, spaces between JSON's signs.
"""

import json
import struct

import numpy as np
import pandas as pd
import pytest

import streamgmm
from streamgmm import GaussianMixture
from streamgmm.exceptions import InputError, ModelFileError
from streamgmm.gaussian.consistency import check_consistent
from streamgmm.gaussian.parameters import MixtureParameters
from tests.helpers import FAMILY_NAMES, clusters

ARRAYS = ("weights", "means", "covariances", "precisions_cholesky", "lower_bounds")


@pytest.fixture(scope="module")
def rows():
    return clusters(np.random.default_rng(5), n_rows=300)


@pytest.fixture(scope="module")
def saved(rows, tmp_path_factory):
    """A file of each family, as bytes, and what they mean."""

    folder = tmp_path_factory.mktemp("models")
    files = {}
    for family in FAMILY_NAMES:
        model = GaussianMixture(3, covariance_type=family, random_state=0, init_params="k-means++", max_iter=3, tol=0)
        model.fit(pd.DataFrame(rows, columns=["a", "b", "c"]))
        merged = model.merge(2) if family == "tied" else model
        streamgmm.save(merged, folder / family, name=f"of {family}", metadata={"owner": ["us", 1.5, None]})
        files[family] = (folder / family).read_bytes()
    return files


def unpacked(body):
    """The safetensors header, the model's header, and the arrays of a file."""
    from safetensors.numpy import load

    (length,) = struct.unpack("<Q", body[:8])
    outer = json.loads(body[8 : 8 + length])
    return outer, json.loads(outer["__metadata__"]["streamgmm"]), {k: v.copy() for k, v in load(body).items()}


def packed(header, arrays, text=None):
    """A file of a header and arrays, as any library for the format would write it."""
    from safetensors.numpy import save

    return save(arrays, metadata={"streamgmm": json.dumps(header) if text is None else text})


def without_checksum(body):
    """The same model as files of earlier versions hold it: only its numbers can tell that it is damaged."""
    _, header, arrays = unpacked(body)
    del header["checksum"], header["has_checksum"]
    return packed(header, arrays)


def meaning(path, rows):
    """All that a file means."""
    model = streamgmm.load(path)
    arrays = {name: getattr(model, f"{name}_").tobytes() for name in (*ARRAYS, "precisions")}
    scalars = (model.converged_, model.n_iter_, model.lower_bound_, model.stop_reason_, model.n_missing_)
    schema = model._fitted_schema()
    names = list(model.feature_names_in_), schema, model.n_features_in_
    frame = pd.DataFrame(rows, columns=list(model.feature_names_in_))
    values = model.score_samples(frame).tobytes(), model.predict(frame).tobytes()
    calibration = model.calibration_.levels.tolist(), model.calibration_.log_densities.tolist()
    more = (model.name_, model.metadata_, model.training_summary_, calibration, list(getattr(model, "clusters_", ())))
    return model.get_params(), arrays, scalars, names, values, more


def flipped(rng, body):
    changed = bytearray(body)
    for at in rng.integers(len(body), size=rng.integers(1, 4)):
        changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def overwritten(rng, body):
    changed, at = bytearray(body), int(rng.integers(len(body)))
    part = rng.bytes(int(rng.integers(1, 40)))
    changed[at : at + len(part)] = part
    return bytes(changed)


def truncated(rng, body):
    return body[: int(rng.integers(len(body)))]


def inserted(rng, body):
    at = int(rng.integers(len(body) + 1))
    return body[:at] + rng.bytes(int(rng.integers(1, 20))) + body[at:]


def removed(rng, body):
    at = int(rng.integers(len(body)))
    return body[:at] + body[at + int(rng.integers(1, 20)) :]


def moved(rng, body):
    """Two parts of the file change places."""
    first, second, third = sorted(rng.integers(len(body), size=3))
    return body[:first] + body[second:third] + body[first:second] + body[third:]


STRANGE = (
    None, True, False, 0, 1, -1, 2, 3, 10**400, 1.5, 1e-300, "", "a", "full", "inf", [], [1], ["a", "a"], {}, {"a": 1},
    "CONVERGED", "MAX_ITER", float("nan"), float("inf"),
)  # fmt: skip


def header_edited(rng, body):
    """An entry of the header, or a parameter in it, is another value, of another type, missing, or not known."""
    _, header, arrays = unpacked(body)
    where = header["parameters"] if rng.random() < 0.4 else header
    name = str(rng.choice(sorted(where)))
    value = STRANGE[rng.integers(len(STRANGE))]
    match rng.integers(5):
        case 0:
            del where[name]
        case 1:
            header["not known"] = value
        case 2:
            where[name + "x"] = where.pop(name)
        case _:
            where[name] = value
    return packed(header, arrays)


def text_edited(rng, body):
    """JSON that is read otherwise, or not at all, by one reader or another."""
    _, header, arrays = unpacked(body)
    text = json.dumps(header)
    edits = (
        lambda: text.replace('"n_iter": 3', '"n_iter": 3, "n_iter": 4'),
        lambda: text.replace('"n_iter": 3', '"n_iter": 3.0'),
        lambda: text.replace('"n_iter": 3', '"n_iter": ' + "9" * 5000),
        lambda: text.replace('"n_iter": 3', '"n_iter": NaN'),
        lambda: "[" * 100_000 + "]" * 100_000,
        lambda: text[: int(rng.integers(len(text)))],
        lambda: f" {text} ",
        lambda: text + text,
        lambda: json.dumps(header, indent=int(rng.integers(4))),
        lambda: '{"format_version": 1}',
        lambda: "null",
    )
    return packed(header, arrays, edits[rng.integers(len(edits))]())


def number_edited(rng, body):
    """A number of an array is another one: not finite, of another sign, ten times as large, or off by one bit."""
    _, header, arrays = unpacked(body)
    array = arrays[str(rng.choice(ARRAYS))].reshape(-1)
    at = int(rng.integers(array.size))
    edits = (np.nan, np.inf, -np.inf, 0.0, -array[at], 10 * array[at], 1e300, np.nextafter(array[at], np.inf))
    array[at] = edits[rng.integers(len(edits))]
    return packed(header, arrays)


def array_edited(rng, body):
    """An array has another shape or dtype, is missing, is that of another name, or is one too many."""
    _, header, arrays = unpacked(body)
    name, other = (str(one) for one in rng.choice(ARRAYS, size=2, replace=False))
    match rng.integers(6):
        case 0:
            arrays[name] = arrays[name].astype(rng.choice(["f4", "i8", "f2", "u1"]))
        case 1:
            arrays[name] = np.ascontiguousarray(arrays[name][..., :-1])
        case 2:
            arrays[name] = arrays[name][np.newaxis]
        case 3:
            del arrays[name]
        case 4:
            arrays[name] = arrays[other].copy()
        case _:
            arrays["not known"] = arrays[name].copy()
    return packed(header, arrays)


MUTATIONS = (
    flipped, overwritten, truncated, inserted, removed, moved, header_edited, text_edited, number_edited, array_edited,
)  # fmt: skip


def mutate(saved, rows, path, n, seed):
    """Try some mutations; return how many were refused, and how many meant what the file meant."""
    rng = np.random.default_rng(seed)
    expected = {}
    for family, body in saved.items():
        path.write_bytes(body)
        expected[family] = meaning(path, rows)
    refused = same = 0
    for number in range(n):
        family, mutation = FAMILY_NAMES[number % 4], MUTATIONS[number // 4 % len(MUTATIONS)]
        body = mutation(rng, saved[family])
        path.write_bytes(body)
        try:
            found = meaning(path, rows)
        except ModelFileError:
            refused += 1
        else:
            assert found == expected[family], (number, family, mutation.__name__)
            same += 1
    return refused, same


def test_500_mutated_files(saved, rows, tmp_path):
    refused, same = mutate(saved, rows, tmp_path / "m", 500, seed=12)
    assert refused + same == 500
    assert refused > 400
    assert same > 5


@pytest.mark.slow
def test_10000_mutated_files(saved, rows, tmp_path):
    refused, same = mutate(saved, rows, tmp_path / "m", 10_000, seed=1)
    print(f"{refused} refused, {same} as they were")
    assert refused + same == 10_000


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_files_without_a_checksum_are_read(family, saved, rows, tmp_path):
    """Those of earlier versions."""
    (tmp_path / "a").write_bytes(saved[family])
    (tmp_path / "b").write_bytes(without_checksum(saved[family]))
    assert meaning(tmp_path / "a", rows) == meaning(tmp_path / "b", rows)


def edited(body, change):
    _, header, arrays = unpacked(without_checksum(body))
    change(header, arrays)
    return packed(header, arrays)


def put(name, at, value):
    return lambda header, arrays: arrays[name].__setitem__(at, value)


def set_to(name, value):
    return lambda header, arrays: header.__setitem__(name, value)


def parameter(name, value):
    return lambda header, arrays: header["parameters"].__setitem__(name, value)


def within(entry, name, value):
    return lambda header, arrays: header[entry].__setitem__(name, value)


def scaled(name, factor):
    return lambda header, arrays: arrays.__setitem__(name, arrays[name] * factor)


def converted(name, dtype):
    return lambda header, arrays: arrays.__setitem__(name, arrays[name].astype(dtype))


EVERY_FAMILY = [
    (put("weights", 0, np.nan), "weights have 1 value.* not finite"),
    (put("means", (1, 1), np.inf), "means have 1 value.* not finite"),
    (put("lower_bounds", 0, np.nan), "lower_bounds are not finite"),
    (put("weights", 0, -0.1), "weights range from -0.1"),
    (put("weights", 0, 1.5), "weights range from .* to 1.5"),
    (scaled("weights", 0.999), "weights sum to 0.999"),
    (scaled("covariances", -1.0), "covariances have a variance of -"),
    (scaled("covariances", 0.0), "covariances have a variance of 0"),
    (scaled("covariances", 1.001), "precisions_cholesky"),
    (scaled("precisions_cholesky", -1.0), "precisions_cholesky have a "),
    (scaled("precisions_cholesky", 1.001), "precisions_cholesky"),
    (converted("means", np.float32), "means are float32; expected float64"),
    (converted("lower_bounds", np.int64), "lower_bounds are not"),
    (set_to("n_features_in", 4), "n_features_in is 4, and means have 3"),
    (set_to("n_features_in", 3.0), "n_features_in is 3.0"),
    (set_to("feature_names_in", ["a", "b"]), "2 names for 3 features"),
    (set_to("feature_names_in", ["a", "b", "b"]), "has a name twice"),
    (set_to("feature_names_in", "abc"), "expected a list of names"),
    (set_to("converged", 1), "converged is 1"),
    (set_to("n_iter", -1), "n_iter is -1"),
    (set_to("n_iter", True), "n_iter is True"),
    (set_to("n_missing", 0.5), "n_missing is 0.5"),
    (set_to("lower_bound", "0"), "lower_bound is '0'"),
    (set_to("stop_reason", "TIRED"), "expected one of CONVERGED"),
    (set_to("parameters", []), "parameters is"),
    (set_to("format_version", 0), "its format is 0"),
    (set_to("format_version", True), "its format is True"),
    (set_to("name", 3), "name is 3; expected a text"),
    (set_to("metadata", []), r"metadata is \[\]; expected an object"),
    (set_to("clusters", [0, 2, 0]), r"expected a list of clusters 0, 1"),
    (set_to("clusters", [0, 1]), "there are clusters of 2 of 3 components"),
    (set_to("clusters", {}), "expected a list of clusters"),
    (set_to("training", 1), "training is 1; expected an object"),
    (set_to("training", {}), "training has no fingerprint, fitted_at, gap"),
    (within("training", "n_rows", -1), "training's n_rows is -1"),
    (within("training", "gap", "0"), "training's gap is '0'"),
    (within("training", "store", 1), "training's store is 1"),
    (within("calibration", "levels", [0.5]), "not two lists of one length that rise"),
    (within("calibration", "levels", 1), "calibration is not a number of rows"),
    (within("calibration", "n_rows", None), "calibration is not a number of rows"),
    (set_to("calibration", {"n_rows": 1, "levels": [0.5, 1.5], "log_densities": [0, 1]}), "not between 0 and 1"),
    (set_to("calibration", {"n_rows": 1, "levels": [0.5, 0.4], "log_densities": [0, 1]}), "that rise"),
    (parameter("covariance_type", "round"), "covariance_type must be one of"),
    (parameter("n_components", 0), "n_components must be an integer"),
    (parameter("tol", -1), "tol must be"),
    (parameter("memory_limit", "much"), "memory_limit must be"),
    (parameter("random_state", "x"), "random_state|seed"),
    (parameter("warm_start", 1), "warm_start is 1"),
    (parameter("verbose", None), "header or arrays"),
]


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_damage_that_only_the_numbers_tell(family, saved, tmp_path):
    """As in a file without a checksum, or one that was made to fit it."""
    for change, words in EVERY_FAMILY:
        (tmp_path / "m").write_bytes(edited(saved[family], change))
        with pytest.raises(ModelFileError, match=words):
            streamgmm.load(tmp_path / "m")


@pytest.mark.parametrize("family", ["full", "tied"])
def test_matrices_that_are_no_covariances(family, saved, tmp_path):
    one = (0,) if family == "full" else ()

    def of(name, change):
        return lambda header, arrays: change(arrays[name][one])

    def correlated(matrix):
        matrix[0, 1] = matrix[1, 0] = 1.5 * np.sqrt(matrix[0, 0] * matrix[1, 1])

    def indefinite(matrix):
        unit = np.sqrt(np.diag(matrix))
        matrix[:] = -0.9 * np.outer(unit, unit)
        matrix[np.diag_indices(3)] = unit**2

    for name, change, words in (
        ("covariances", lambda matrix: matrix.__setitem__((0, 1), matrix[0, 1] + 0.1), "not symmetric"),
        ("covariances", correlated, "a correlation is more than 1"),
        ("covariances", indefinite, "is not positive definite"),
        ("covariances", lambda matrix: matrix.__setitem__((0, 0), 1.01 * matrix[0, 0]), "does not belong to"),
        ("precisions_cholesky", lambda matrix: matrix.__setitem__((2, 0), 1e-3), "not upper triangular"),
        ("precisions_cholesky", lambda matrix: matrix.__setitem__((0, 2), matrix[0, 2] + 1e-3), "does not belong to"),
    ):
        (tmp_path / "m").write_bytes(edited(saved[family], of(name, change)))
        with pytest.raises(ModelFileError, match=words):
            streamgmm.load(tmp_path / "m")


def test_a_checksum_finds_what_no_number_tells(saved, tmp_path):
    for change in (put("means", (0, 0), 1.25), set_to("n_iter", 4), parameter("tol", 1e-3), set_to("n_missing", 7)):
        _, header, arrays = unpacked(saved["full"])
        change(header, arrays)
        (tmp_path / "m").write_bytes(packed(header, arrays))
        with pytest.raises(ModelFileError, match="its checksum is not that of"):
            streamgmm.load(tmp_path / "m")
    _, header, arrays = unpacked(saved["full"])
    header["a later version's"] = {"entry": 1}
    (tmp_path / "m").write_bytes(packed(header, {**arrays, "array": np.zeros(3)}))
    assert streamgmm.load(tmp_path / "m").n_features_in_ == 3


def test_a_checksum_can_not_be_lost(saved, tmp_path):
    """Of two places that say that there is one, damage may have hit one, and a number besides."""
    (tmp_path / "m").write_bytes(
        saved["full"].replace(b'\\"checksum\\"', b'\\"checksun\\"').replace(b"n_iter", b"n_itex")
    )
    with pytest.raises(ModelFileError, match="checksum can't be computed"):
        streamgmm.load(tmp_path / "m")


def test_a_file_says_nothing_of_places_or_code(saved, tmp_path):
    def checkpoint(header, arrays):
        header["parameters"] |= {"checkpoint": "/somewhere", "callback": "print", "persist": True}

    (tmp_path / "m").write_bytes(edited(saved["diag"], checkpoint))
    model = streamgmm.load(tmp_path / "m")
    assert (model.checkpoint, model.callback, model.persist) == (None, None, "auto")


def test_a_large_file_that_is_no_model_is_not_read(tmp_path, monkeypatch):
    np.save(tmp_path / "rows.npy", np.zeros((1000, 100)))
    monkeypatch.setattr("safetensors.numpy.load", lambda _: pytest.fail("it was read"))
    with pytest.raises(ModelFileError, match="no model file"):
        streamgmm.load(tmp_path / "rows.npy")
    (tmp_path / "m").write_bytes(struct.pack("<Q", 2**63) + b"{}")
    with pytest.raises(ModelFileError, match="no model file"):
        streamgmm.load(tmp_path / "m")


def test_a_bound_that_is_not_finite_survives(rows, tmp_path):
    """Of a model whose start is its fit, say."""
    model = GaussianMixture(2, random_state=0, init_params="random_from_data", max_iter=1, tol=0).fit(rows)
    model.lower_bound_, model.lower_bounds_ = -np.inf, np.empty(0)
    streamgmm.save(model, tmp_path / "m")
    assert streamgmm.load(tmp_path / "m").lower_bound_ == -np.inf


@pytest.mark.parametrize("kind", ["tight", "collinear", "units", "far", "wide"])
def test_honest_models_are_not_refused(kind, covariance_type, rng, tmp_path):
    """However badly conditioned: what a fit gives is read again."""
    x = clusters(rng, n_rows=400, n_features=4)
    x = {
        "tight": lambda: np.concatenate([1e-6 * x, 1e3 + x]),
        "collinear": lambda: np.column_stack([x, x[:, :1] + 1e-7 * rng.normal(size=(len(x), 1))]),
        "units": lambda: x * [1e-90, 1.0, 1e9, 1e60],
        "far": lambda: x + 1e7,
        "wide": lambda: rng.normal(size=(300, 60)),
    }[kind]()
    if kind == "units" and covariance_type == "spherical":
        x = 1e60 * clusters(rng, n_rows=400)
    model = GaussianMixture(
        2, covariance_type=covariance_type, random_state=0, init_params="k-means++", max_iter=5, tol=0
    )
    model.fit(x)
    streamgmm.save(model, tmp_path / "m")
    assert streamgmm.load(tmp_path / "m").means_.tobytes() == model.means_.tobytes()


def test_a_mixture_of_one_value_is_checked(rng):
    one = np.ones((1, 1, 1))
    check_consistent(MixtureParameters("full", np.ones(1), np.ones((1, 1)), one, one))
    with pytest.raises(InputError, match=r"covariances have shape \(1, 1, 1\); expected \(1, 2, 2\)"):
        check_consistent(MixtureParameters("full", np.ones(1), np.ones((1, 2)), one, one))
    with pytest.raises(InputError, match=r"means have shape \(0, 1\)"):
        check_consistent(MixtureParameters("full", np.ones(1), np.ones((0, 1)), one, one))
