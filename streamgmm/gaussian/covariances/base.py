"""What a covariance family has to say; everything else in the package is written against this."""

from abc import ABC, abstractmethod
from functools import cache
from typing import ClassVar

import numpy as np
from scipy.linalg import lapack

from streamgmm.exceptions import SingularCovarianceError
from streamgmm.gaussian.statistics import SufficientStatistics
from streamgmm.gaussian.whitening import Whitening
from streamgmm.typing import Floats, Integers

LOG_2_PI = float(np.log(2.0 * np.pi))


class CovarianceFamily(ABC):
    """A shape that covariances may have: its features phi, its parameters, its M-step.

    A family's features are products of two rows of a factor matrix (1, z, and for some squares of z)::

        phi = (factor_i * factor_j : i < n_left, i <= j < n_factors)

    Shapes below: K components, D features. "One covariance" means the family's shape for one component.
    """

    #: scikit-learn's name, the value of `covariance_type`.
    name: ClassVar[str]
    #: The factors after 1 and z, as the kernels name them: 0 none, 1 each square, 2 the sum of the squares.
    squares: ClassVar[int]
    #: Whether all components share one covariance.
    shared: ClassVar[bool] = False

    # Features

    @abstractmethod
    def n_factors(self, n_features: int) -> tuple[int, int]:
        """Return (n_left, n_factors)."""

    def n_terms(self, n_features: int) -> int:
        """Return F, the length of phi."""
        n_left, n_factors = self.n_factors(n_features)
        return n_left * n_factors - n_left * (n_left - 1) // 2

    def factor_pairs(self, n_features: int) -> tuple[Integers, Integers]:
        """Return the two factors of each feature phi, in order."""
        return _factor_pairs(*self.n_factors(n_features))

    def features(self, z: Floats) -> Floats:
        """Return phi of each row, shape (n, F): the definition, for small n."""
        squares = {0: z[:, :0], 1: z * z, 2: (z * z).sum(axis=1, keepdims=True)}[self.squares]
        factors = np.hstack([np.ones((len(z), 1)), z, squares])
        left, right = self.factor_pairs(z.shape[1])
        phi: Floats = factors[:, left] * factors[:, right]
        return phi

    @abstractmethod
    def natural_parameters(self, weights: Floats, means: Floats, precisions_cholesky: Floats) -> Floats:
        """Return Theta, shape (K, F): log pi_k + log N(z | mu_k, Sigma_k) = Theta_k . phi(z).

        For tied covariances without the quadratic term, which is the same for every component.
        """

    # Parameters

    @abstractmethod
    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        """Return the shape of the covariances of a mixture."""

    @abstractmethod
    def n_covariance_parameters(self, n_components: int, n_features: int) -> int:
        """Return the number of free parameters in the covariances."""

    @abstractmethod
    def min_rows(self, n_features: int) -> int:
        """Return how many rows a component needs for its own covariance to be regular."""

    @abstractmethod
    def rank(self, n_features: int) -> int:
        """Return the rank of one covariance: the directions in which rows must differ for it to be regular."""

    @abstractmethod
    def identity(self, n_features: int) -> Floats:
        """Return the covariance of white data, in the shape of one covariance."""

    @abstractmethod
    def precisions_cholesky(self, covariances: Floats) -> Floats:
        """Return the upper-triangular U with inv(Sigma) = U U', or 1 / sd where Sigma is diagonal.

        Raises
        ------
        SingularCovarianceError
            If a covariance is not positive definite.
        """

    @abstractmethod
    def precisions(self, precisions_cholesky: Floats) -> Floats:
        """Return U U'."""

    @abstractmethod
    def covariances_of_precisions(self, precisions: Floats) -> Floats:
        """Return the covariances of given precisions."""

    @abstractmethod
    def log_det_precisions_cholesky(self, precisions_cholesky: Floats, n_features: int) -> Floats:
        """Return log |det U| of each component; one value, shape (1,), where they share it."""

    @abstractmethod
    def full_precisions_cholesky(self, precisions_cholesky: Floats, n_components: int, n_features: int) -> Floats:
        """Return U as matrices for every component, shape (K, D, D)."""

    @abstractmethod
    def traces(self, matrix: Floats, precisions_cholesky: Floats, n_features: int) -> Floats:
        """Return tr(matrix Sigma^-1) of each distinct covariance, for a matrix in the shape of one covariance."""

    @abstractmethod
    def standardise(self, offsets: Floats, precisions_cholesky: Floats) -> Floats:
        """Return U_k' d_k for an offset d_k of each component, shape (K, D): in standard deviations."""

    @abstractmethod
    def variance_ratios(self, covariances: Floats, precisions_cholesky: Floats, n_features: int) -> Floats:
        """Return the eigenvalues of U' Sigma U, all 1 where inv(Sigma) = U U': shape (K, D), (1, D) where shared."""

    @abstractmethod
    def smallest_eigenvalues(self, covariances: Floats) -> Floats:
        """Return the smallest eigenvalue of each distinct covariance."""

    def select(self, covariances: Floats, components: Integers) -> Floats:
        """Return the covariances of some of the components."""
        return covariances if self.shared else covariances[components]

    # Unconstrained coordinates

    @abstractmethod
    def covariance_coordinates(self, covariances: Floats) -> Floats:
        """Return the log-Cholesky coordinates of each distinct covariance, shape (K, C) or (1, C).

        Those are the entries of L with Sigma = L L', the diagonal as logarithms: every value is a valid covariance.
        """

    @abstractmethod
    def covariances_of_coordinates(self, coordinates: Floats, n_features: int) -> Floats:
        """Return the covariances with given coordinates, in the family's shape."""

    @abstractmethod
    def coordinate_metric(self, covariances: Floats, n_features: int) -> Floats:
        """Return the root of the diagonal of the coordinates' Fisher information per row, shape (K, C) or (1, C).

        For the logarithm of a diagonal entry sqrt(2), for L_ij one over the standard deviation of feature i.
        """

    # The M-step

    @abstractmethod
    def scatters(self, statistics: SufficientStatistics) -> Floats:
        """Return W_k, the weighted scatter of each component about its mean, in the shape of the covariances."""

    def expected_log_likelihood(
        self, statistics: SufficientStatistics, weights: Floats, means: Floats, precisions_cholesky: Floats
    ) -> float:
        """Return sum over rows and components of w resp (log pi_k + log N(z | mu_k, Sigma_k)), in nats."""
        theta = self.natural_parameters(weights, means - statistics.shift, precisions_cholesky)
        return float((statistics.sums * theta).sum())

    # Coordinates

    @abstractmethod
    def whitening(self, center: Floats, covariance: Floats) -> Whitening:
        """Make the whitening from the data's mean and covariance (D, D).

        Families without off-diagonal elements take the variances alone too, shape (D,).
        """

    @abstractmethod
    def whiten_covariances(self, covariances: Floats, whitening: Whitening) -> Floats:
        """Map covariances from the data's coordinates to whitened ones."""

    @abstractmethod
    def unwhiten_covariances(self, covariances: Floats, whitening: Whitening) -> Floats:
        """Map covariances from whitened coordinates to the data's."""

    @abstractmethod
    def unwhiten_precisions_cholesky(self, precisions_cholesky: Floats, whitening: Whitening) -> Floats:
        """Map U from whitened coordinates to the data's."""

    @abstractmethod
    def whiten_precisions_cholesky(self, precisions_cholesky: Floats, whitening: Whitening) -> Floats:
        """Map U from the data's coordinates to whitened ones."""


def variances_of(covariance: Floats) -> Floats:
    """Return the variances of a covariance (D, D), or of the variances themselves (D,)."""
    return covariance if covariance.ndim == 1 else np.diag(covariance)


@cache
def upper_triangle(n: int) -> tuple[Integers, Integers]:
    """Return the indices (i, j), i <= j, of a matrix, row by row."""
    rows, columns = np.triu_indices(n)
    rows.flags.writeable = columns.flags.writeable = False
    return rows, columns


@cache
def _factor_pairs(n_left: int, n_factors: int) -> tuple[Integers, Integers]:
    left = np.concatenate([np.full(n_factors - i, i) for i in range(n_left)]).astype(np.int64)
    right = np.concatenate([np.arange(i, n_factors) for i in range(n_left)]).astype(np.int64)
    left.flags.writeable = right.flags.writeable = False
    return left, right


def cholesky_of_inverse(covariances: Floats, *, shared: bool = False) -> Floats:
    """Return the upper-triangular U with inv(covariance) = U U' of each matrix, shape (K, D, D)."""
    factors = np.empty_like(covariances)
    for k, covariance in enumerate(covariances):
        # LAPACK itself: the checks of `scipy.linalg` take ten times as long as a small matrix.
        lower, info = lapack.dpotrf(covariance, lower=1)
        if info != 0 or not np.isfinite(lower).all():
            raise SingularCovarianceError(
                f"{'the shared covariance' if shared else f'the covariance of component {k}'} is not positive "
                "definite: use reg_covar='auto', a larger reg_covar, fewer components, or drop features that are "
                "constant or a combination of others"
            )
        factors[k] = lapack.dtrtri(lower, lower=1)[0].T
    return factors


def inverse_standard_deviations(variances: Floats) -> Floats:
    """Return 1 / sd of variances of any shape."""
    if not np.all(variances > 0.0):
        component = int(np.argwhere(~(variances > 0.0))[0][0])
        raise SingularCovarianceError(
            f"a variance of component {component} is not positive: use reg_covar='auto', a larger reg_covar, fewer "
            "components, or drop features that are constant"
        )
    inverse: Floats = 1.0 / np.sqrt(variances)
    return inverse


def unpacked_moments(packed: Floats, n_features: int) -> Floats:
    """Turn second moments (K, D(D+1)/2), each pair i <= j once, into symmetric matrices (K, D, D)."""
    rows, columns = upper_triangle(n_features)
    moments = np.empty((len(packed), n_features, n_features))
    moments[:, rows, columns] = packed
    moments[:, columns, rows] = packed
    return moments
