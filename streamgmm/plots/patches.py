"""Pictures of mixtures; they need the extra `plot` (matplotlib)."""

from __future__ import annotations

import numpy as np

from streamgmm.estimators.gaussian_mixture import GaussianMixture
from streamgmm.exceptions import InputError


def save_patch_components(
    model: GaussianMixture, patch_shape: tuple[int, int], path: str, *, n_directions: int = 6, title: str = ""
) -> None:
    """Draw the components of a mixture of image patches: each one's mean and its main directions of variation.

    Parameters
    ----------
    model : GaussianMixture
        Fitted, with one feature for each pixel.
    patch_shape : tuple of (int, int)
        Height and width of a patch, in pixels.
    path : str
        The picture to write; its suffix names the format (.png).
    n_directions : int, default=6
        Eigenvectors of the covariance to draw, those of the largest eigenvalues.
    title : str, default=""
        Above the picture.

    Raises
    ------
    InputError
        If matplotlib is not installed, or the patch has another number of pixels than the model has features.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("drawing needs matplotlib: pip install 'streamgmm[plot]'") from None
    parameters = model._parameters()
    if patch_shape[0] * patch_shape[1] != parameters.n_features:
        raise InputError(f"a patch of shape {patch_shape} does not have {parameters.n_features} pixels")
    order = np.argsort(-parameters.weights, kind="stable")
    covariances = parameters.full_covariances()
    low, high = float(parameters.means.min()), float(parameters.means.max())
    figure = Figure(figsize=(0.75 * (n_directions + 3), 0.75 * len(order) + 1.0), layout="constrained")
    axes = figure.subplots(len(order), n_directions + 1, squeeze=False)
    for row, k in zip(axes, order, strict=True):
        row[0].imshow(parameters.means[k].reshape(patch_shape), cmap="gray", vmin=low, vmax=high)
        row[0].set_ylabel(f"{parameters.weights[k]:.1%}", rotation=0, ha="right", va="center")
        eigenvectors = np.linalg.eigh(covariances[k])[1][:, ::-1]
        for column, axis in enumerate(row[1:]):
            direction = eigenvectors[:, column].reshape(patch_shape)
            bound = float(np.abs(direction).max())
            axis.imshow(direction, cmap="RdBu", vmin=-bound, vmax=bound)
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
    axes[0, 0].set_title("mean", fontsize=9)
    axes[0, 1].set_title("main directions of variation", fontsize=9, loc="left")
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=110)
