"""Commands and jobs on the rows and the model of the folder that tests are in, and what they leave there."""

from click.testing import CliRunner

from streamgmm.cli.main import main

N = 3000


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(one) for one in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


FIT = ("fit", "x.parquet", "--components", 2, "--columns", "a,b", "--output", "new")
PREDICT = ("predict", "m", "x.parquet", "--output", "o.parquet", "--keep", "id")
JOB = """
source = "x.parquet"
columns = ["a", "b"]
model = "new"
[[steps]]
step = "fit"
components = 2
init_params = "kmeans"
[[steps]]
step = "predict"
output = "o.parquet"
keep = ["id"]
write = ["label", "outlier"]
outlier_rate = 0.01
[[steps]]
step = "score"
"""


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
