"""A mixture as an ONNX graph: labels, probabilities and log-densities without Python."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from streamgmm._version import __version__
from streamgmm.exceptions import InputError
from streamgmm.export.extras import import_extra
from streamgmm.export.header import Description
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.typing import Floats

if TYPE_CHECKING:
    import onnx as onnx_types

#: Operators are used as they have been since this version of the operators.
OLDEST_OPSET = 13
#: Since this version axes are inputs of all reductions.
_AXES_ARE_INPUTS = 18
FLOAT_TYPES = ("float64", "float32")


class _Graph:
    """Nodes and constants of a graph that is being written down."""

    def __init__(self, onnx: Any, opset: int) -> None:
        self.onnx, self.opset = onnx, opset
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float64) -> str:
        self.constants.append(self.onnx.numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [output], **attributes))
        return output

    def reduce(self, operator: str, value: str, axis: int, output: str) -> str:
        # Sums have axes as an input since 13.
        if operator == "ReduceSum" or self.opset >= _AXES_ARE_INPUTS:
            axes = self.constant(f"{output}_axis", [axis], np.int64)
            return self.node(operator, [value, axes], output, keepdims=1)
        return self.node(operator, [value], output, axes=[axis], keepdims=1)


def build_onnx(
    parameters: MixtureParameters, description: Description, *, opset: int = 17, float_type: str = "float64"
) -> onnx_types.ModelProto:
    """Return a graph of the input "X" (n, D) and the outputs "label", "probabilities" and "log_density".

    It computes in float64, whatever the type of its input and outputs: near a tight component float32 has no digits
    left of a difference to its mean.

    Raises
    ------
    InputError
    """
    onnx = import_extra("onnx", "onnx")
    newest = onnx.defs.onnx_opset_version()
    if not isinstance(opset, (int, np.integer)) or not OLDEST_OPSET <= opset <= newest:
        raise InputError(f"opset must be an integer from {OLDEST_OPSET} to {newest}, the onnx package's; got {opset!r}")
    if float_type not in FLOAT_TYPES:
        raise InputError(f"float_type must be one of {', '.join(map(repr, FLOAT_TYPES))}; got {float_type!r}")
    graph, helper = _Graph(onnx, int(opset)), onnx.helper
    double = onnx.TensorProto.DOUBLE
    outside = double if float_type == "float64" else onnx.TensorProto.FLOAT
    x = graph.node("Cast", ["X"], "x", to=double)
    logits = _logits(graph, parameters, x)
    _results(graph, logits, description, outside)
    n_classes = parameters.n_components if description.clusters is None else int(description.clusters.max()) + 1
    tensor = helper.make_tensor_value_info
    made: onnx_types.ModelProto = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "gaussian_mixture",
            [tensor("X", outside, [None, parameters.n_features])],
            [
                tensor("label", onnx.TensorProto.INT64, [None]),
                tensor("probabilities", outside, [None, n_classes]),
                tensor("log_density", outside, [None]),
            ],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", int(opset))],
        producer_name="streamgmm",
        producer_version=__version__,
        ir_version=helper.find_min_ir_version_for([helper.make_opsetid("", int(opset))]),
    )
    names = description.schema.feature_names
    facts = {"name": description.name, "features": None if names is None else json.dumps([str(name) for name in names])}
    helper.set_model_props(made, {key: value for key, value in facts.items() if value is not None})
    onnx.checker.check_model(made, full_check=True)
    return made


def _logits(graph: _Graph, parameters: MixtureParameters, x: str) -> str:
    """Write down log(weight) + log-density of each component, shape (n, K)."""
    factors, n_features = parameters.precisions_cholesky, parameters.n_features
    log_det = parameters.family.log_det_precisions_cholesky(factors, n_features)
    constant: Floats = np.log(parameters.weights) + log_det - 0.5 * n_features * np.log(2.0 * np.pi)
    rows = graph.node("Unsqueeze", [x, graph.constant("component_axis", [0], np.int64)], "rows")
    # A component's rows lie together, (K, n, D): of each one product of matrices.
    means = graph.constant("means", parameters.means[:, np.newaxis, :])
    offsets = graph.node("Sub", [rows, means], "offsets")
    if parameters.covariance_type in ("full", "tied"):
        standard = graph.node("MatMul", [offsets, graph.constant("factors", factors)], "standard")
    else:
        scale = factors.reshape(parameters.n_components, 1, -1)
        standard = graph.node("Mul", [offsets, graph.constant("factors", scale)], "standard")
    squares = graph.node("Mul", [standard, standard], "squares")
    distances = graph.reduce("ReduceSum", squares, 2, "distances")
    flat = graph.node("Squeeze", [distances, graph.constant("feature_axis", [2], np.int64)], "flat")
    by_row = graph.node("Transpose", [flat], "by_row", perm=[1, 0])
    halved = graph.node("Mul", [by_row, graph.constant("minus_half", -0.5)], "halved")
    return graph.node("Add", [halved, graph.constant("constant", constant)], "logits")


def _results(graph: _Graph, logits: str, description: Description, outside: int) -> None:
    """Write down the outputs: by the largest logit the others don't overflow."""
    largest = graph.reduce("ReduceMax", logits, 1, "largest")
    shares = graph.node("Exp", [graph.node("Sub", [logits, largest], "below")], "shares")
    total = graph.reduce("ReduceSum", shares, 1, "total")
    resp = graph.node("Div", [shares, total], "resp")
    log_density = graph.node("Add", [largest, graph.node("Log", [total], "log_total")], "log_density_column")
    if description.clusters is not None:
        members = np.eye(int(description.clusters.max()) + 1)[description.clusters]
        resp = graph.node("MatMul", [resp, graph.constant("members", members)], "resp_of_clusters")
        best = graph.node("ArgMax", [resp], "best", axis=1, keepdims=0)
    else:
        best = graph.node("ArgMax", [logits], "best", axis=1, keepdims=0)
    one_axis = graph.constant("one_axis", [1], np.int64)
    density = graph.node("Squeeze", [log_density, one_axis], "density")
    # A missing value makes all of a row NaN.
    unknown = graph.node("IsNaN", [density], "unknown")
    graph.node("Where", [unknown, graph.constant("no_label", -1, np.int64), best], "label")
    graph.node("Cast", [resp], "probabilities", to=outside)
    graph.node("Cast", [density], "log_density", to=outside)
