"""The command line, run as a user would: results on standard output, mistakes in one line, nothing half written."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from click.testing import CliRunner

import streamgmm
from streamgmm import GaussianMixture, load
from streamgmm.cli.main import main
from streamgmm.cli.options import name_options
from tests.helpers import bad_inputs


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def store(x, tmp_path):
    zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(500, 3))
    return tmp_path / "x.zarr"


@pytest.fixture
def model(store, tmp_path):
    run("fit", store, "--components", 3, "--output", tmp_path / "m.safetensors", "--scheduler", "synchronous")
    return tmp_path / "m.safetensors"


def test_fit_predict_score_info(store, model, x, tmp_path):
    fitted = load(model)
    assert run("score", model, store).stdout == f"{fitted.score(x):.9f}\n"
    scores = json.loads(run("score", model, store, "--json").stdout)
    assert scores["bic"] == pytest.approx(fitted.bic(x))
    assert scores["aic"] == pytest.approx(fitted.aic(x))
    run("predict", model, store, "--output", tmp_path / "labels.zarr")
    np.testing.assert_array_equal(zarr.open_group(tmp_path / "labels.zarr")["label"][:], fitted.predict(x))
    run("predict", model, store, "--output", tmp_path / "proba.parquet", "--write", "responsibilities")
    table = pq.read_table(tmp_path / "proba.parquet")
    np.testing.assert_array_equal(np.column_stack([c.to_numpy() for c in table.columns]), fitted.predict_proba(x))
    run("predict", model, store, "--output", tmp_path / "d.zarr", "--write", "log_density")
    np.testing.assert_array_equal(zarr.open_group(tmp_path / "d.zarr")["log_density"][:], fitted.score_samples(x))
    shown = run("info", model).stdout
    assert "n components: 3" in shown
    assert f"{fitted.weights_.max():.4f}" in shown
    described = json.loads(run("info", model, "--json").stdout)
    assert described["means"] == fitted.means_.tolist()


def test_a_table_with_columns_and_weights(x, tmp_path):
    table = pa.table({"name": ["t"] * len(x), "a": x[:, 0], "b": x[:, 1], "w": np.ones(len(x))})
    pq.write_table(table, tmp_path / "t.parquet")
    output = tmp_path / "m"
    result = run(
        "fit",
        tmp_path / "t.parquet",
        "--components",
        2,
        "--columns",
        "a, b",
        "--weight-column",
        "w",
        "--output",
        output,
    )
    assert result.stdout.startswith(f"{output}: 2 components, 2 features")
    assert "iteration 1:" in result.stderr
    assert list(load(output).feature_names_in_) == ["a", "b"]
    run("predict", output, tmp_path / "t.parquet", "--output", tmp_path / "l.parquet")
    assert pq.read_table(tmp_path / "l.parquet").num_rows == len(x)


def test_quiet_and_warnings(store, tmp_path):
    result = run(
        "fit", store, "--components", 4, "--max-iter", 2, "--quiet", "--no-accelerate", "--init-params", "k-means++",
        "--output", tmp_path / "m",
    )  # fmt: skip
    (line,) = result.stderr.splitlines()
    assert line.startswith("streamgmm: warning: the fit stopped after max_iter=2")


def test_select(store, x, tmp_path):
    output = tmp_path / "best.safetensors"
    result = run("select", store, "--components", "1:4", "--output", output)
    shown = result.stdout.splitlines()
    assert "candidates go on" in result.stderr
    assert shown[0].split()[:2] == ["components", "covariance"]
    (best,) = [line for line in shown if line.startswith("best ") and "best by" not in line]
    assert best.split()[1] == "3"
    assert len(load(output).weights_) == 3
    found = json.loads(run("select", store, "--components", "2,3", "--criterion", "held_out", "--json").stdout)
    assert [row["n_components"] for row in found["table"]] == [2, 3]
    assert found["best"] == 1
    for wrong in ("3:1", "0:2", "a", "1:2:3:4", ""):
        one_line(run("select", store, "--components", wrong, code=2), "1:20")
    one_line(run("select", store, "--components", "2", "--covariance-type", "round", code=2), "'round'")


def test_report(store, tmp_path):
    shown = run("fit", store, "--components", 3, "--output", tmp_path / "m", "--report", "--quiet").stdout
    assert "nats per row away, estimated" in shown
    assert "steps taken back" in shown


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_processes(store, model, tmp_path):
    run(
        "fit", store, "--components", 3, "--scheduler", "processes", "--workers", 2, "--quiet",
        "--output", tmp_path / "p.safetensors",
    )  # fmt: skip
    np.testing.assert_array_equal(load(tmp_path / "p.safetensors").means_, load(model).means_)


def one_line(result, *words):
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("streamgmm: ")
    for word in words:
        assert word in lines[0]


def test_users_mistakes_are_one_line_and_write_nothing(model, store, tmp_path):
    folder = tmp_path / "inputs"
    folder.mkdir()
    for name, source, keywords, _ in bad_inputs(folder):
        if not isinstance(source, str):
            continue
        extra = ["--columns", ",".join(keywords["columns"])] if "columns" in keywords else []
        extra += ["--weight-column", keywords["sample_weight"]] if "sample_weight" in keywords else []
        result = run("fit", source, "--components", 2, *extra, "--output", tmp_path / "out", code=65)
        one_line(result, *([] if name == "missing glob" else [source.split("/")[-1]]))
    one_line(run("predict", tmp_path / "none", store, "--output", tmp_path / "o.zarr", code=65), "no model file")
    one_line(run("predict", model, store, "--output", tmp_path / "o.csv", code=2), ".zarr or .parquet")
    one_line(
        run("predict", model, store, "--write", "labels", "--output", tmp_path / "o.zarr", code=2), "'labels'", "label"
    )
    one_line(run("predict", model, tmp_path / "none", "--output", tmp_path / "o.zarr", code=65), "does not exist")
    one_line(run("info", store, code=65), "no model file")
    one_line(run("fit", store, "--components", 2, "--output", model, code=73), "exists", "overwrite")
    one_line(run("fit", store, "--components", 5000, "--output", tmp_path / "out", "--quiet", code=2), "n_components")
    one_line(
        run("fit", store, "--components", 2, "--scheduler", "nowhere", "--output", tmp_path / "out", code=2), "nowhere"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["inputs", "m.safetensors", "x.zarr"]


def test_mistakes_of_usage_are_one_line_too(store):
    one_line(run("fit", store, code=2), "Missing option '--components'", "fit --help")
    one_line(run("fit", store, "--components", "many", "--output", "m", code=2), "'many' is not a valid integer range")
    one_line(run("fit", store, "--components", 2, "--reg-covar", "x", "--output", "m", code=2), "a number or 'auto'")
    one_line(run("fitt", code=2), "No such command 'fitt'")


def test_missing_values(x, tmp_path):
    x[17, 1] = np.nan
    zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(500, 3))
    one_line(
        run("fit", tmp_path / "x.zarr", "--components", 2, "--output", tmp_path / "m", "--quiet", code=65),
        "row 17, column 1",
    )
    result = run("fit", tmp_path / "x.zarr", "--components", 2, "--output", tmp_path / "m", "--missing", "drop")
    assert "left out 1 row" in result.stderr


def test_every_command_has_help_and_an_example():
    for name in main.list_commands(None):
        shown = run(name, "--help").stdout
        assert f"Example: streamgmm {name}" in " ".join(shown.split())
        assert main.get_command(None, name).get_short_help_str(200)
    assert "predict" in run("--help").stdout


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("leave such rows out with missing='drop'", "leave such rows out with --missing drop"),
        ("begin anew with resume='never'", "begin anew with --resume never"),
        ("resume='must' needs checkpoint=, the folder", "--resume must needs --checkpoint, the folder"),
        ("name some with columns=", "name some with --columns"),
        ("use persist=False", "use --no-persist"),
        ("allow it to be replaced (overwrite)", "allow it to be replaced (--overwrite)"),
        ("more than memory_limit=1.0 MB", "more than --memory-limit 1.0 MB"),
        ("the store s3://bucket/year=2020 is empty", "the store s3://bucket/year=2020 is empty"),
    ],
)
def test_messages_name_options_as_they_are_typed(message, said):
    assert name_options(message) == said


def test_a_message_of_the_package_names_the_option(store, x, tmp_path):
    broken = x.copy()
    broken[3, 1] = np.nan
    np.save(tmp_path / "broken.npy", broken)
    one_line(
        run("fit", tmp_path / "broken.npy", "--components", 2, "--output", tmp_path / "m", code=65), "--missing drop"
    )


def test_choices_of_options_are_those_of_the_package():
    """They are written out there, as importing what has them would make --help slow."""
    from streamgmm.cli import export, plot
    from streamgmm.export.onnx_graph import FLOAT_TYPES
    from streamgmm.export.sql import DIALECTS, WHAT
    from streamgmm.plots.page import PICTURES

    assert plot._PICTURES == PICTURES
    assert export._WHAT == WHAT
    assert set(export._DIALECTS) == set(DIALECTS) - {"postgres"}
    float_types = next(one for one in export.export.params if one.name == "float_type").type.choices
    assert tuple(float_types) == FLOAT_TYPES


def test_export(store, x, tmp_path):
    import joblib
    import onnx

    model = tmp_path / "model.safetensors"
    fitted = GaussianMixture(2, random_state=0).fit(x)
    streamgmm.save(fitted, model)
    run(
        "export", model, "--to", "onnx", "--output", tmp_path / "model.onnx", "--float-type", "float32", "--opset", "18"
    )
    assert onnx.load(tmp_path / "model.onnx").opset_import[0].version == 18
    run("export", model, "--to", "sklearn", "--output", tmp_path / "model.joblib")
    there = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(there.means_, fitted.means_)
    columns = ",".join(f"c{j}" for j in range(x.shape[1]))
    query = run("export", model, "--to", "sql", "--columns", columns, "--keep", "id", "--what", "label").stdout
    assert query.startswith("SELECT")
    assert fitted.to_sql("duckdb", "label", columns=columns.split(","), keep=["id"]) == query.strip()
    run("export", model, "--to", "sql", "--columns", columns, "--output", tmp_path / "q.sql", "--dialect", "spark")
    assert (tmp_path / "q.sql").read_text().endswith(";\n")
    one_line(run("export", model, "--to", "onnx", code=2), "--to onnx writes a file: name it (--output)")
    one_line(run("export", model, "--to", "sql", code=2), "features have no names", "--columns")
    one_line(
        run("export", model, "--to", "onnx", "--output", tmp_path / "model.onnx", code=73), "exists", "--overwrite"
    )


def test_info_shows_names_as_they_are(tmp_path):
    """Units in brackets are no markup, and JSON has no infinity."""
    model = GaussianMixture.from_parameters(
        [1.0], [[0.0, 0.0]], np.ones((1, 2)), covariance_type="diag", feature_names=["speed [m/s]", "v [/h]"]
    )
    streamgmm.save(model, tmp_path / "m", name="[draft] wind")
    shown = run("info", tmp_path / "m").stdout
    assert "name: [draft] wind" in shown
    assert "speed [m/s], v [/h]" in shown
    found = json.loads(run("info", tmp_path / "m", "--json").stdout, parse_constant=lambda name: pytest.fail(name))
    assert found["lower_bound"] is None
