"""`streamgmm export`."""

from __future__ import annotations

import click

from streamgmm.cli import options

#: What becomes of a model, and how its file is called by default.
_TARGETS = ("onnx", "sql", "sklearn")
_DIALECTS = ("duckdb", "postgresql", "spark", "bigquery", "snowflake")
_WHAT = ("label", "log_density", "responsibilities")


@click.command(short_help="Write a model as ONNX, SQL or for scikit-learn.")
@click.argument("model")
@click.option("--to", "target", type=click.Choice(_TARGETS), required=True, help="What to write.")
@click.option(
    "--output",
    metavar="FILE",
    help="The file to write: .onnx, .sql, or .joblib for sklearn. SQL is printed without it.",
)
@click.option("--opset", type=click.IntRange(1), default=17, show_default=True, help="Of ONNX: version of operators.")
@click.option(
    "--float-type",
    type=click.Choice(["float64", "float32"]),
    default="float64",
    show_default=True,
    help="Of ONNX: the type of rows and results.",
)
@click.option("--dialect", type=click.Choice(_DIALECTS), default="duckdb", show_default=True, help="Of SQL.")
@click.option(
    "--what", metavar="A,B,...", default=",".join(_WHAT), show_default=True, help="Of SQL: the results to select."
)
@click.option("--table", default="rows", show_default=True, help="Of SQL: the table of the rows.")
@click.option("--keep", metavar="A,B,...", help="Of SQL: columns to carry over, as a row's key.")
@click.option("--columns", metavar="A,B,...", help="Of SQL: the features' columns; those of the fit if not given.")
@options.overwrite
def export(
    model: str,
    target: str,
    output: str | None,
    opset: int,
    float_type: str,
    dialect: str,
    what: str,
    table: str,
    keep: str | None,
    columns: str | None,
    overwrite: bool,
) -> None:
    """Write MODEL for other software: an ONNX graph, a SELECT for a database, or a mixture of scikit-learn.

    Example: streamgmm export model.safetensors --to sql --dialect duckdb --table visits --keep id
    """
    from streamgmm import load
    from streamgmm.exceptions import InputError
    from streamgmm.storage.outputs import check_output, write_whole

    if output is None and target != "sql":
        raise InputError(f"--to {target} writes a file: name it (--output)")
    fitted = load(model)
    if target == "onnx":
        data = fitted.to_onnx(opset=opset, float_type=float_type).SerializeToString()
    elif target == "sklearn":
        import io

        import joblib

        buffer = io.BytesIO()
        joblib.dump(fitted.to_sklearn(), buffer)
        data = buffer.getvalue()
    else:
        text = fitted.to_sql(
            dialect,
            options.split_columns(what) or (),
            table=table,
            columns=options.split_columns(columns),
            keep=options.split_columns(keep) or (),
        )
        if output is None:
            click.echo(text)
            return
        data = f"{text};\n".encode()
    assert output is not None  # or an error was raised
    check_output(output, overwrite=overwrite, is_folder=False)
    write_whole(output, data)
    click.echo(f"{output}: {len(data):,} bytes")
