"""The compiled functions behind a look at the shapes: machine code reads and writes where it is told to.

A block that is narrower than the mixture would be read beyond its end, a result that is too short written beyond it.
"""

from typing import Any

from streamgmm.gaussian.kernels import block, hashing


def _check(name: str, found: tuple[int, ...], *allowed: tuple[int, ...]) -> None:
    if found not in allowed:
        raise ValueError(f"{name} has shape {found}; expected {' or '.join(map(str, allowed))}")


def _check_mixture(x: Any, frame: tuple[Any, Any, Any], theta: Any, n_columns: int, workspace: tuple[Any, ...]) -> None:
    center, scale, whitening = frame
    centred, whitened, _, logits, _ = workspace
    n_features = len(center)
    if x.ndim != 2 or x.shape[1] != n_features:
        raise ValueError(f"x has shape {x.shape}; the mixture has {n_features} features: expected (n, {n_features})")
    if whitening.size:
        _check("whitening", whitening.shape, (whitened.shape[0] * (n_features + 1),))
    else:
        _check("scale", scale.shape, (n_features,))
    _check("centred", centred.shape[:1], (1 + n_features,))
    _check("theta", theta.shape, (logits.shape[0] * n_columns,))


def accumulate(
    x: Any,
    sample_weight: Any,
    center: Any,
    scale: Any,
    whitening: Any,
    theta: Any,
    n_components: int,
    n_left: int,
    squares: int,
    left: Any,
    right: Any,
    n_columns: int,
    centred: Any,
    whitened: Any,
    z: Any,
    logits: Any,
    rows: Any,
    sums: Any,
    out_log_prob: Any,
) -> tuple[float, float, int, int]:
    """Call `block.accumulate`.

    Raises
    ------
    ValueError
        If shapes don't fit.
    """
    workspace = (centred, whitened, z, logits, rows)
    _check_mixture(x, (center, scale, whitening), theta, n_columns, workspace)
    _check("sample_weight", sample_weight.shape, (0,), (len(x),))
    _check("out_log_prob", out_log_prob.shape, (0,), (len(x),))
    _check("sums", sums.shape, (logits.shape[0], len(left)))
    found: tuple[float, float, int, int] = block.accumulate(
        x, sample_weight, center, scale, whitening, theta, n_components, n_left, squares, left, right, n_columns,
        *workspace, sums, out_log_prob,
    )  # fmt: skip
    return found


def evaluate(
    x: Any,
    center: Any,
    scale: Any,
    whitening: Any,
    theta: Any,
    n_components: int,
    n_left: int,
    squares: int,
    n_columns: int,
    centred: Any,
    whitened: Any,
    z: Any,
    logits: Any,
    rows: Any,
    out_log_prob: Any,
    out_resp: Any,
    out_labels: Any,
) -> tuple[int, int]:
    """Call `block.evaluate`.

    Raises
    ------
    ValueError
        If shapes don't fit.
    """
    workspace = (centred, whitened, z, logits, rows)
    _check_mixture(x, (center, scale, whitening), theta, n_columns, workspace)
    for name, out in (("out_log_prob", out_log_prob), ("out_labels", out_labels)):
        _check(name, out.shape, (0,), (len(x),))
    if out_resp.size:
        _check("out_resp", out_resp.shape, (len(x), n_components))
    found: tuple[int, int] = block.evaluate(
        x, center, scale, whitening, theta, n_components, n_left, squares, n_columns, *workspace, out_log_prob,
        out_resp, out_labels,
    )  # fmt: skip
    return found


def hash_rows(x: Any, seed: int, keys: Any, finite: Any) -> None:
    """Call `hashing.hash_rows`.

    Raises
    ------
    ValueError
        If shapes don't fit.
    """
    if x.ndim != 2:
        raise ValueError(f"x has shape {x.shape}; expected two dimensions")
    _check("keys", keys.shape, (len(x),))
    _check("finite", finite.shape, (len(x),))
    hashing.hash_rows(x, seed, keys, finite)
