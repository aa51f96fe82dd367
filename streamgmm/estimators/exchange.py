"""A mixture in other software: scikit-learn, ONNX, databases."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from streamgmm.estimators.clusters import ClusterableMixture
from streamgmm.exceptions import InputError
from streamgmm.export.header import Description
from streamgmm.export.onnx_graph import build_onnx
from streamgmm.export.scikit_learn import from_scikit_learn, to_scikit_learn
from streamgmm.export.sql import WHAT, build_sql
from streamgmm.fitting.parameters import PARAMETERS
from streamgmm.sources.schema import FeatureSchema
from streamgmm.storage.outputs import check_output, write_whole

if TYPE_CHECKING:
    import onnx
    import sklearn.mixture


class PortableMixture(ClusterableMixture):
    """A mixture that goes elsewhere, and comes from elsewhere."""

    def to_sklearn(self) -> sklearn.mixture.GaussianMixture:
        """Return a fitted mixture of scikit-learn with the same parameters to the last bit.

        Returns
        -------
        sklearn.mixture.GaussianMixture
            Settings that scikit-learn does not have are its own defaults there: a start by "kmeans", and 1e-6 for
            ``reg_covar="auto"``. They count in its next fit.

        Raises
        ------
        InputError
            If components were merged: scikit-learn predicts components alone.

        Examples
        --------
        >>> from streamgmm import GaussianMixture
        >>> model = GaussianMixture.from_parameters([0.5, 0.5], [[0.0], [4.0]], [1.0, 1.0], covariance_type="spherical")
        >>> model.to_sklearn().predict([[1.0], [3.0]])
        array([0, 1])
        """
        return to_scikit_learn(self._parameters(), self._description(), self.lower_bounds_)

    @classmethod
    def from_sklearn(cls, model: Any) -> Self:
        """Take over a fitted mixture of scikit-learn, with its parameters to the last bit, and its settings.

        Parameters
        ----------
        model : sklearn.mixture.GaussianMixture
            Fitted.

        Returns
        -------
        GaussianMixture
            A new one.

        Raises
        ------
        InputError
            If it is something else, or not fitted.
        """
        parameters, given, names = from_scikit_learn(model)
        made = cls._made(parameters, FeatureSchema(names), given)
        made.converged_, made.n_iter_ = bool(model.converged_), int(model.n_iter_)
        made.lower_bound_ = float(model.lower_bound_)
        return made

    def to_onnx(
        self, path: str | os.PathLike[str] | None = None, *, opset: int = 17, float_type: str = "float64",
        overwrite: bool = False,
    ) -> onnx.ModelProto:  # fmt: skip
        """Return the mixture as an ONNX graph, and write it to a file.

        Its input is "X" of shape (n, n_features); its outputs are "label" (int64; -1 where a value is not finite),
        "probabilities" (n, n_components) and "log_density" (nats). It needs the extra ``onnx``.

        Parameters
        ----------
        path : str or path, default=None
            Where to write it, too.
        opset : int, default=17
            The version of the operators, from 13 on.
        float_type : {"float64", "float32"}, default="float64"
            The type of X, probabilities and log_density. The graph computes in float64.
        overwrite : bool, default=False
            Whether to replace a file that is there.

        Returns
        -------
        onnx.ModelProto
            Checked by ONNX's own checker.
        """
        made = build_onnx(self._parameters(), self._description(), opset=opset, float_type=float_type)
        if path is not None:
            check_output(path, overwrite=overwrite, is_folder=False)
            write_whole(path, made.SerializeToString())
        return made

    def to_sql(
        self,
        dialect: str = "duckdb",
        what: str | Sequence[str] = WHAT,
        *,
        table: str = "rows",
        columns: Sequence[str] | None = None,
        keep: Sequence[str] = (),
    ) -> str:
        """Return a SELECT by which a database scores its rows; it needs the extra ``sql``.

        Rows with a feature that is NULL, NaN or infinite get NULL. Names are quoted: give those of Snowflake as they
        are there, in capitals mostly.

        Parameters
        ----------
        dialect : {"duckdb", "postgresql", "spark", "bigquery", "snowflake"}, default="duckdb"
            Whose SQL it is.
        what : str or sequence of str, default=("label", "log_density", "responsibilities")
            What to select: the columns "label", "log_density" (nats), and "proba_0", "proba_1", ...
        table : str, default="rows"
            The table, with its schema if need be.
        columns : sequence of str, default=None
            The columns of the features, in their order; the names that the fit had if None.
        keep : sequence of str, default=()
            Columns to carry over: the key of a row.

        Returns
        -------
        str
            One SELECT, without a semicolon.

        Examples
        --------
        >>> from streamgmm import GaussianMixture
        >>> model = GaussianMixture.from_parameters([1.0], [[3.0]], [[[4.0]]], feature_names=["a"])
        >>> query = model.to_sql("duckdb", "log_density", table="visits", keep=["id"])
        """
        names = columns
        if names is None:
            known = self._fitted_schema().feature_names
            if known is None or not all(isinstance(name, str) for name in known):
                raise InputError(
                    "the features have no names, or some that are not texts, so their columns are not known: name "
                    "them, columns=[...]"
                )
            names = [str(name) for name in known]
        clusters = getattr(self, "clusters_", None)
        return build_sql(self._parameters(), names, clusters, dialect=dialect, what=what, table=table, keep=keep)

    # What other modules of the package ask

    def _description(self) -> Description:
        """Return all that there is to know of the fitted mixture but its arrays."""
        parameters = {name: value for name, value in self.get_params(deep=False).items() if PARAMETERS[name].saved}
        parameters["covariance_type"], parameters["n_components"] = self._get_fitted_as()
        return Description(
            parameters=parameters,
            stop_reason=self.stop_reason_,
            converged=self.converged_,
            n_iter=self.n_iter_,
            n_missing=self.n_missing_,
            n_features=self.n_features_in_,
            lower_bound=self.lower_bound_,
            schema=self._fitted_schema(),
            clusters=getattr(self, "clusters_", None),
            # Pickles of version 0.2.0 have none of these.
            name=getattr(self, "name_", None),
            metadata=getattr(self, "metadata_", {}),
            training=getattr(self, "training_summary_", None),
            calibration=getattr(self, "calibration_", None),
        )
