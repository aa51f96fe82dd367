"""The four covariance families, each a class behind one interface (`base.CovarianceFamily`), looked up once by name."""

from streamgmm.gaussian.covariances.base import CovarianceFamily
from streamgmm.gaussian.covariances.diag import Diag
from streamgmm.gaussian.covariances.full import Full
from streamgmm.gaussian.covariances.spherical import Spherical
from streamgmm.gaussian.covariances.tied import Tied

#: The families by the name of their `covariance_type`.
FAMILIES: dict[str, CovarianceFamily] = {family.name: family for family in (Full(), Tied(), Diag(), Spherical())}

__all__ = ["FAMILIES", "CovarianceFamily"]
