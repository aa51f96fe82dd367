"""Array types, as the annotations name them."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

#: An array of float64: parameters, statistics, results.
Floats: TypeAlias = npt.NDArray[np.float64]
#: Rows as they come, of any numeric dtype.
Rows: TypeAlias = npt.NDArray[Any]
Integers: TypeAlias = npt.NDArray[np.int64]
