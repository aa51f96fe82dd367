"""A job file is checked as a whole, before anything is done; every mistake in it is named, with what would be right."""

import json
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgmm.exceptions import InputError
from streamgmm.jobs.declaration import Job
from streamgmm.jobs.reading import check_job, read_job

WHOLE = """
name = "nightly"
source = "${STORE:-visits}/day=${DAY}"
columns = ["minutes", "pages"]
where = "country = 'DE'"
model = "m.safetensors"
missing = "drop"
[cluster]
scheduler = "processes"
workers = 4
[limits]
memory = "2GB"
max_seconds = 3600
[criteria]
converged = true
max_missing = 0.01
[reports]
log_format = "json"
[[steps]]
step = "fit"
components = 8
reg_covar = 0.5
[[steps]]
step = "predict"
output = "scored-$$1.parquet"
write = ["label", "log_density"]
keep = ["id"]
source = "other"
[[steps]]
step = "compare"
models = ["a", "b"]
"""


def test_a_job_is_what_its_file_says(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(WHOLE)
    job = read_job(str(path), environment={"DAY": "1"})
    fit, predict, _ = job.steps
    assert job.rows_of(fit) == {
        "source": "visits/day=1", "columns": ["minutes", "pages"], "where": "country = 'DE'", "weight_column": None,
        "missing": "drop",
    }  # fmt: skip
    assert job.rows_of(predict)["source"] == "other"
    assert (job.model_of(fit), fit.components, fit.reg_covar) == ("m.safetensors", 8, 0.5)
    assert predict.output == "scored-$1.parquet"
    assert (job.limits.max_seconds, job.cluster.workers, job.criteria.max_missing) == (3600.0, 4, 0.01)


def test_entries_can_be_changed(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(WHOLE)
    changes = ["steps.0.components=3", "limits.max_seconds = 1.5", "steps.1.keep=[]", "name=by hand", "source=s3://b/x"]
    job = read_job(str(path), changes, environment={"DAY": "1"})
    assert (job.steps[0].components, job.limits.max_seconds, job.steps[1].keep) == (3, 1.5, [])
    assert (job.name, job.source) == ("by hand", "s3://b/x")
    for change, match in (
        ("steps.9.components=3", "entries 0 to 2, no '9'"),
        ("steps.x.components=3", "no 'x'"),
        ("name.first=3", "has no parts"),
        ("nothing", "no key=value"),
        ("=3", "no key=value"),
        ("steps.0.componets=3", "did you mean 'components'"),
    ):
        with pytest.raises(InputError, match=match):
            read_job(str(path), [change], environment={"DAY": "1"})


STEP = {"step": "fit", "components": 3, "model": "m", "source": "x"}


@pytest.mark.parametrize(
    ("said", "matches"),
    [
        ({}, ["steps is missing"]),
        ({"steps": []}, ["steps is \\[\\]"]),
        (
            {"steps": [STEP], "sorce": "x", "limit": 3},
            ["2 mistakes", "sorce is not known: did you mean 'source'", "'limits'"],
        ),
        ({"steps": [{**STEP, "componets": 3}]}, ["steps.0.componets is not known: did you mean 'components'"]),
        ({"steps": [STEP], "limits": {"max_second": 1}}, ["limits.max_second .* 'max_seconds'"]),
        ({"steps": [{**STEP, "step": "predct"}]}, ["'predct': did you mean 'predict'"]),
        ({"steps": [{"components": 3}]}, ["steps.0.step is missing; expected one of fit, select"]),
        ({"steps": [{**STEP, "components": 0}]}, ["steps.0.components is 0"]),
        ({"steps": [{**STEP, "components": "3"}]}, ["steps.0.components is '3'"]),
        ({"steps": [{**STEP, "components": True}]}, ["steps.0.components is True"]),
        ({"steps": [{**STEP, "covariance_type": "round"}]}, ["'full', 'tied', 'diag' or 'spherical'"]),
        ({"steps": [{"step": "fit", "components": 3}]}, ["no source", "no model"]),
        ({"steps": [STEP], "model": "${NOT_SET}"}, ["model needs the variable NOT_SET"]),
        ({"steps": [STEP], "model": "${not a name}"}, ["no \\${NAME}"]),
        ({"steps": "fit"}, ["steps is 'fit'"]),
        ({"steps": [3]}, ["steps.0 is 3"]),
        ({"steps": [STEP], "cluster": 3}, ["cluster is 3"]),
        ({"steps": [STEP], "criteria": {"max_missing": 2.0}}, ["criteria.max_missing is 2.0"]),
        ({"steps": [{"step": "compare", "models": ["a"], "source": "x"}]}, ["steps.0.models"]),
        (
            {"steps": [{"step": "predict", "model": "m", "source": "x", "output": "o", "write": ["labels"]}]},
            ["'labels'"],
        ),
    ],
)
def test_every_mistake_is_named(said, matches):
    with pytest.raises(InputError) as caught:
        check_job(said, "job.toml", {})
    import re

    for match in matches:
        assert re.search(match, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"\xff\xfe", "UTF-8"),
        (b"steps = [", "no TOML"),
        (b"a = 1\na = 2", "no TOML"),
        (b"x = " + b"[" * 5000 + b"]" * 5000, "no TOML|nested"),
        (b"#" * 2_000_000, "more than 1,000,000 bytes"),
    ],
)
def test_what_is_no_job_file_is_said(data, match, tmp_path):
    path = tmp_path / "job.toml"
    path.write_bytes(data)
    with pytest.raises(InputError, match=match):
        read_job(str(path))
    with pytest.raises(InputError, match="can't be read"):
        read_job(str(tmp_path / "none.toml"))
    with pytest.raises(InputError, match="can't be read"):
        read_job(str(tmp_path))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["fit", "x", "${A}"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*Job.model_fields, "step", "components", "output", "models", "zz"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(said=st.dictionaries(st.sampled_from([*Job.model_fields, "zz"]), VALUES, max_size=5))
def test_whatever_is_said_is_a_job_or_one_error(said):
    try:
        check_job(said, "job.toml", {})
    except InputError as error:
        assert "mistake" in str(error) or "nested" in str(error)  # noqa: PT017 (both ends are right)


def test_the_schema_is_that_of_the_checks():
    """Of the whole file that is right, an outside validator says the same; and of one that is wrong."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = Job.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    said = tomllib.loads(WHOLE)
    assert not list(validator.iter_errors(said))
    assert list(validator.iter_errors({**said, "sorce": 1}))
    assert list(validator.iter_errors({**said, "steps": [{"step": "fit", "componets": 3}]}))
    for definition in schema["$defs"].values():
        assert definition.get("additionalProperties") is False
    assert json.dumps(schema)
