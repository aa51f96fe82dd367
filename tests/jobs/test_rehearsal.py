"""A job is checked as a whole: in a dry run each step against what those before would leave, outputs against all."""

import re

import pytest

from tests.jobs.commands import JOB, PREDICT, content, run


def test_a_dry_run_of_a_job_whose_model_is_not_there_yet(place):
    (place / "job.toml").write_text(JOB)
    before = content(place)
    found = run("run", "job.toml", "--dry-run").stdout.splitlines()
    assert found == ["fit: 3000 rows would be fitted", "predict: 3000 rows would be scored",
                     "score: 3000 rows would be scored"]  # fmt: skip
    compared = 'step = "compare"\nmodels = ["m", "new"]\noutput = "m"'
    (place / "job.toml").write_text(JOB.replace('step = "score"', compared))
    before = content(place)
    assert "compare: 3000 rows would be compared" in run("run", "job.toml", "--dry-run").stdout
    run("run", "job.toml", "--set", "steps.0.columns=['a']", "--dry-run", code=65)  # of other features
    assert content(place) == before


WRONG = (
    ("compression", "zip", "compression must be one of", 2),
    ("keep", "['nothing']", "no column 'nothing'", 65),
    ("partition_by", "['a']", "partition_by names 'a', which is not kept", 2),
    ("prefix", "id", None, 0),
    ("outlier_rate", "1e-9", "rate=1e-09", 2),
    ("outlier_threshold", "-3.0", "one of them", 2),
    ("write", "['label', 'label']", "'label' 2 times", 2),
    ("output", "o.csv", "must end in .zarr or .parquet", 2),
    ("row_group_rows", "0", "greater than or equal to 1", 2),
)


@pytest.mark.parametrize(("name", "value", "said", "code"), WRONG)
def test_a_dry_run_checks_the_options_of_what_follows_a_fit(name, value, said, code, place):
    (place / "job.toml").write_text(JOB)
    before = content(place)
    result = run("run", "job.toml", "--set", f"steps.1.{name}={value}", "--dry-run", code=code)
    if said is not None:
        assert said in result.stderr
        assert result.stderr.count("\n") <= 6
    assert content(place) == before


def test_options_that_can_never_be_had_end_a_job_before_its_first_step(place):
    (place / "job.toml").write_text(JOB)
    for option in ("compression=zip", "outlier_threshold=-3.0", "write=['label', 'label']"):
        run("run", "job.toml", "--set", f"steps.1.{option}", code=2)
        assert not (place / "new").exists()


def test_a_dry_run_says_of_an_output_what_the_run_would(place):
    run(*PREDICT)
    assert "predict: finished already" in run(*PREDICT, "--dry-run").stdout
    before = content(place)
    run(*PREDICT, "--prefix", "gmm_", "--dry-run", code=73)
    assert "3000 rows would be scored" in run(*PREDICT, "--prefix", "gmm_", "--overwrite", "--dry-run").stdout
    assert content(place) == before


def test_a_dry_run_knows_that_rows_are_not_there_yet(place):
    (place / "job.toml").write_text(
        """
[[steps]]
step = "predict"
source = "x.parquet"
model = "m"
output = "scored.parquet"
keep = ["a", "b"]
[[steps]]
step = "fit"
source = "scored.parquet"
columns = ["a", "b"]
model = "second"
components = 2
init_params = "kmeans"
[[steps]]
step = "score"
source = "x.parquet"
model = "second"
"""
    )
    found = run("run", "job.toml", "--dry-run").stdout.splitlines()
    assert found == ["predict: 3000 rows would be scored", "fit: would follow: a step before writes its rows",
                     "score: would follow: a step before fits its model"]  # fmt: skip
    run("run", "job.toml")
    found = run("run", "job.toml", "--dry-run").stdout
    assert "predict: finished already" in found


JOBS = (
    # A later step would replace what an earlier one has read, or written.
    ("m", "in.parquet", "m", "x.parquet", "steps.1 .predict.: the output x.parquet is x.parquet, the rows of steps.0"),
    ("m", "x.parquet", "m", "o.parquet", "is o.parquet, the scores of steps.0"),
    ("m", "x.parquet", "m", "o.parquet/more.parquet", "lies inside o.parquet, the scores of steps.0"),
)


@pytest.mark.parametrize(("model", "source", "second", "output", "said"), JOBS)
def test_no_step_writes_over_what_another_has_used(model, source, second, output, said, place):
    (place / "in.parquet").write_bytes((place / "x.parquet").read_bytes())
    job = f"""
[[steps]]
step = "predict"
source = "x.parquet"
model = "{model}"
output = "o.parquet"
[[steps]]
step = "predict"
source = "{source}"
model = "{second}"
output = "{output}"
if_exists = "replace"
"""
    (place / "job.toml").write_text(job.replace('"x.parquet"', '"in.parquet"', 1) if output == "in.parquet" else job)
    before = content(place)
    result = run("run", "job.toml", code=2)
    assert re.search(said, result.stderr)
    assert content(place) == before


def test_a_model_may_make_room_for_its_successor(place):
    (place / "job.toml").write_text(
        """
source = "x.parquet"
columns = ["a", "b"]
[[steps]]
step = "score"
model = "m"
[[steps]]
step = "fit"
model = "new"
components = 1
init_params = "kmeans"
[[steps]]
step = "compare"
models = ["m", "new"]
output = "m"
[[steps]]
step = "fit"
model = "m"
components = 2
init_params = "kmeans"
if_exists = "replace"
"""
    )
    result = run("run", "job.toml", code=2)
    assert "the model of steps.2" in result.stderr  # written twice
    run("run", "job.toml", "--set", "steps.3.model=third")
