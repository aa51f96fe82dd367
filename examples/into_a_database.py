"""Carry a model elsewhere: a SELECT for DuckDB, an ONNX graph, a mixture of scikit-learn, an MLflow model.

    python examples/into_a_database.py [FOLDER]

All of them give what the model gives; the database scores its own rows, without Python.
"""

import sys
import tempfile
import warnings
from pathlib import Path

import duckdb
import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import pandas as pd

import streamgmm


def main(folder: Path) -> None:
    rng = np.random.default_rng(0)
    kind = rng.choice(3, size=50_000, p=[0.5, 0.3, 0.2])
    visits = pd.DataFrame({
        "id": np.arange(50_000),
        "minutes": rng.normal(np.array([4.0, 12.0, 30.0])[kind], 2.0),
        "pages": rng.normal(np.array([2.0, 9.0, 14.0])[kind], 1.5),
    })  # fmt: skip
    visits.to_parquet(folder / "visits.parquet")
    features = ["minutes", "pages"]
    model = streamgmm.GaussianMixture(3, init_params="kmeans", random_state=0).fit(visits[features])
    expected = model.score_samples(visits)

    database = duckdb.connect(str(folder / "visits.duckdb"))
    database.sql(f"create or replace table visits as from '{folder / 'visits.parquet'}'")
    query = model.to_sql("duckdb", table="visits", keep=["id"])
    (folder / "score.sql").write_text(query + ";\n")
    database.sql(f"create or replace view scored as {query}")
    scored = database.sql("select * from scored order by id").df()
    sizes = database.sql("select label, count(*) from scored group by label order by label").fetchall()
    print("in the database:", sizes)
    print(f"largest difference of a log-density: {np.abs(scored['log_density'] - expected).max():.1e}")

    graph = model.to_onnx(folder / "visits.onnx", overwrite=True)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    log_density = session.run(["log_density"], {"X": visits[features].to_numpy()})[0]
    print(f"ONNX: {np.abs(log_density - expected).max():.1e}")

    reference = model.to_sklearn()
    print(f"scikit-learn: {np.abs(reference.score_samples(visits[features]) - expected).max():.1e}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own
        import mlflow.sklearn

        mlflow.sklearn.save_model(model, str(folder / "mlflow"), serialization_format="cloudpickle")
        served = mlflow.sklearn.load_model(str(folder / "mlflow"))
    print(f"MLflow: {np.abs(served.score_samples(visits) - expected).max():.1e}")

    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    axes.scatter(scored.merge(visits)["minutes"], scored.merge(visits)["pages"], c=scored["label"], s=1, cmap="tab10")
    axes.set(title="visits, by the label that DuckDB gave them", xlabel="minutes", ylabel="pages")
    figure.savefig(folder / "scored.png", dpi=110)
    plt.close(figure)
    print(f"query, graph, model and picture are in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="streamgmm-example-")))
