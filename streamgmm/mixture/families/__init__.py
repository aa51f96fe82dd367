"""The four covariance families, each a class behind one interface (`base.CovarianceFamily`), looked up once by name."""

from streamgmm.mixture.families.base import CovarianceFamily
from streamgmm.mixture.families.diag import Diag
from streamgmm.mixture.families.full import Full
from streamgmm.mixture.families.spherical import Spherical
from streamgmm.mixture.families.tied import Tied

#: The families by the name of their `covariance_type`.
FAMILIES: dict[str, CovarianceFamily] = {family.name: family for family in (Full(), Tied(), Diag(), Spherical())}

__all__ = ["FAMILIES", "CovarianceFamily"]
