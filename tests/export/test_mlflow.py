"""A mixture is an estimator of scikit-learn: MLflow's flavour for these keeps it and brings it back."""

import numpy as np
import pytest

from tests.estimators.test_handmade import by_hand

mlflow = pytest.importorskip("mlflow")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own, of each of its versions others
def test_the_flavour_of_scikit_learn_keeps_a_mixture(tmp_path):
    import mlflow.sklearn

    model = by_hand().merge(2)
    mlflow.sklearn.save_model(model, tmp_path / "model", serialization_format="cloudpickle")
    loaded = mlflow.sklearn.load_model(str(tmp_path / "model"))
    x = np.zeros((3, 3))
    assert loaded == model
    np.testing.assert_array_equal(loaded.predict_proba(x), model.predict_proba(x))
    # As MLflow serves it.
    served = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    np.testing.assert_array_equal(served.predict(x), model.predict(x))
