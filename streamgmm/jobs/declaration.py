"""What a job is: its steps, and what they take. Checks, JSON Schema and documentation all come from here."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Missing: TypeAlias = Literal["raise", "drop"]
Family: TypeAlias = Literal["full", "tied", "diag", "spherical"]
Start: TypeAlias = Literal["sample", "k-means++", "kmeans", "hierarchical", "random", "random_from_data"]
IfExists: TypeAlias = Literal["fail", "skip", "replace"]
Score: TypeAlias = Literal["label", "probability", "log_density", "outlier", "responsibilities"]
Count: TypeAlias = Annotated[int, Field(ge=1, lt=2**31)]
Positive: TypeAlias = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**32)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class Declared(BaseModel):
    """A part of a job: only what is named here, of the types that are named here."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Rows(Declared):
    """Which rows a step reads; what a step does not say is as the job says."""

    source: str | Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description="Path or URL of a store, list of Parquet files, delta:PATH@VERSION or iceberg:CATALOG.TABLE@ID.",
    )
    columns: list[str] | None = Field(None, description="The features of a table.")
    where: str | None = Field(None, description="Which rows of Parquet files are meant, in SQL's words.")
    weight_column: str | None = Field(None, description="The column of a table that holds row weights.")
    missing: Missing | None = Field(None, description="Whether rows with NaN or infinity are an error or left out.")


class FitStep(Rows):
    """Fit a mixture, and write the model."""

    step: Literal["fit"] = "fit"
    model: str | None = Field(None, description="The model file to write (.safetensors).")
    components: Count = Field(description="Number of components.")
    covariance_type: Family = Field("full", description="Family of the covariances.")
    tol: Annotated[float, Field(ge=0)] | None = Field(None, description="Stop this close to the optimum, nats per row.")
    reg_covar: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="A number to add to the covariances' diagonals, or auto."
    )
    max_iter: Annotated[int, Field(ge=0)] | None = Field(None, description="Most iterations.")
    n_init: Count | None = Field(None, description="Number of starts to choose from.")
    init_params: Start | None = Field(None, description="How a start is made.")
    accelerate: bool | None = Field(None, description="Go further than EM from pass to pass, or not.")
    random_state: Seed = Field(0, description="Seed.")
    persist: bool | None = Field(None, description="Keep the rows in memory after the first pass, or not.")
    checkpoint: str | None = Field(None, description="Folder to keep the fit's state in, and to go on from.")
    resume: Literal["auto", "must", "never"] | None = Field(None, description="Whether to go on from the checkpoint.")
    name: str | None = Field(None, description="What to call the model, in its file.")
    if_exists: IfExists = Field("fail", description="Where another model is there.")


class SelectStep(Rows):
    """Fit mixtures of several sizes with the same passes, compare them, and write the best."""

    step: Literal["select"] = "select"
    model: str | None = Field(None, description="The model file to write, of the best.")
    components: list[Count] | str = Field(description='Numbers of components: [1, 2, 4], or "1:20" or "1:20:2".')
    covariance_type: Family | list[Family] = Field("full", description="Families to try.")
    criterion: Literal["bic", "aic", "icl", "held_out"] = Field("bic", description="What the best is chosen by.")
    held_out: Annotated[float, Field(ge=0, le=0.5)] = Field(0.1, description="Share of the rows to hold out.")
    tol: Annotated[float, Field(ge=0)] | None = Field(None, description="Stop this close to the optimum, nats per row.")
    reg_covar: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="A number to add to the covariances' diagonals, or auto."
    )
    random_state: Seed = Field(0, description="Seed.")
    if_exists: IfExists = Field("fail", description="Where another model is there.")


class PredictStep(Rows):
    """Score rows with a model, and write the results next to columns that are kept."""

    step: Literal["predict"] = "predict"
    model: str | None = Field(None, description="The model file.")
    output: str = Field(description="A name that ends in .parquet or .zarr.")
    write: list[Score] = Field(["label"], description="The results to write.", min_length=1)
    keep: list[str] | Literal["all"] = Field([], description="Columns to carry over.")
    outlier_rate: Share | None = Field(None, description="Share of the rows of the fit that would be outliers.")
    outlier_threshold: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        None, description="Log-density (nats) below which a row is an outlier."
    )
    float_type: Literal["float64", "float32"] = Field("float64", description="Of densities and probabilities.")
    compression: str | None = Field(
        None, description="snappy, zstd, gzip, lz4, brotli or none; of Zarr zstd, gzip, lz4."
    )
    row_group_rows: Count | None = Field(None, description="Rows of a row group of Parquet.")
    partition_by: list[str] = Field([], description="Columns kept whose values become folders (Parquet).")
    prefix: str = Field("", description="What the names of the results begin with.")
    if_exists: IfExists = Field("fail", description="Where another output is there.")


class ScoreStep(Rows):
    """Find the mean log-likelihood of rows under a model."""

    step: Literal["score"] = "score"
    model: str | None = Field(None, description="The model file.")


class CompareStep(Rows):
    """Compare models on the same rows, the first being the one that the others have to beat."""

    step: Literal["compare"] = "compare"
    models: list[str] = Field(description="The model files, the present one first.", min_length=2)
    output: str | None = Field(None, description="Where to put a copy of the best model.")
    min_gain: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Nats per row, beyond two standard errors, that another must be better by to be the best."
    )
    if_exists: IfExists = Field("replace", description="Where there is an output.")


Step: TypeAlias = Annotated[FitStep | SelectStep | PredictStep | ScoreStep | CompareStep, Field(discriminator="step")]
STEPS: dict[str, type[Rows]] = {
    "fit": FitStep, "select": SelectStep, "predict": PredictStep, "score": ScoreStep, "compare": CompareStep,
}  # fmt: skip


class Cluster(Declared):
    """Where to run."""

    scheduler: str = Field("threads", description="threads, processes, or the address of a Dask scheduler.")
    workers: Count | None = Field(None, description="Number of threads or processes.")


class Limits(Declared):
    """What the job may take."""

    memory: str | int | None = Field(None, description='Memory of a process for rows, as in "2GB".')
    max_seconds: Positive | None = Field(None, description="End after so long, with the best found by then.")


class Criteria(Declared):
    """What must hold, or the job fails with bad data (65); the outputs are written."""

    converged: bool = Field(False, description="Every fit has converged; else the job ends with 3.")
    max_missing: Share | None = Field(None, description="Share of rows with missing values, at most.")
    max_outliers: Share | None = Field(None, description="Share of outliers among the rows that are scored, at most.")
    min_score: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        None, description="Mean log-likelihood of the rows of score steps, nats per row, at least."
    )


class Reports(Declared):
    """What the job says of itself."""

    log_format: Literal["text", "json"] = Field("text", description="Of the log, on standard error.")
    metrics: str | None = Field(None, description="A text file for Prometheus, written when the job ends.")


class Job(Rows):
    """A job: steps that run one after the other."""

    name: str | None = Field(None, description="What metrics call the job; the file's name if not given.")
    model: str | None = Field(None, description="The model file of steps that name none.")
    cluster: Cluster = Cluster()
    limits: Limits = Limits()
    criteria: Criteria = Criteria()
    reports: Reports = Reports()
    steps: list[Step] = Field(description="What to do, in this order.", min_length=1)

    def rows_of(self, step: Rows) -> dict[str, Any]:
        """Return which rows a step reads: as it says, or as the job does."""
        return {name: _first(getattr(step, name), getattr(self, name)) for name in Rows.model_fields}

    def model_of(self, step: Any) -> str | None:
        """Return the model file of a step."""
        found: str | None = _first(step.model, self.model)
        return found


def _first(own: Any, of_job: Any) -> Any:
    return of_job if own is None else own
