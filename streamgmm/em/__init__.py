"""Expectation-maximisation: the iteration, its state, when it stops, and what makes it take few passes.

Out of core it is reading that costs, so a fit is judged by its passes. A pass at parameters theta gives the full data's
statistics, and with them the lower bound at theta and M(theta), where EM goes next (Dempster, Laird & Rubin, Journal of
the Royal Statistical Society B 39, 1977). EM's error shrinks by a fixed rate from pass to pass, which is close to 1
where components overlap: a hundred passes are common. What `accelerate` does about it:

Surrogate steps
    Between two passes the likelihood is maximised on the sample, corrected so that its gradient at theta is the full
    data's. The correction, ``S - (N / n) S_sample(theta)``, is linear in the natural parameters, so that maximising is
    EM on the sample with corrected statistics, and each of its steps goes up. The error now shrinks by the error of the
    sample's curvature, whatever EM's rate is. (Jordan, Lee & Yang, "Communication-efficient distributed statistical
    inference", Journal of the American Statistical Association 114, 2019, correct a likelihood in the same way.) Where
    the sample has the curvature's sign wrong the surrogate is damped towards EM, as Levenberg and Marquardt do it.
Anderson acceleration
    Successive points of that map, or of EM's where the surrogate is of no use, are extrapolated (Walker & Ni, SIAM
    Journal on Numerical Analysis 49, 2011).
Steps taken back
    A proposal is only that: where the next pass finds a lower bound there that is lower, it is thrown away, and the fit
    goes on from M(theta) of the best step, which cannot be worse. A mistake costs one pass.
The gap
    A fit stops on what is left to gain, in nats per row, and not on the last change. With a surrogate that is what its
    maximisation has gained, times the factor by which earlier ones promised too little; with EM alone it is
    ``DeltaQ / (1 - rate)``. The fit is over where it is under `tol`, or under the rounding of the likelihood.
Reseed
    A component that starves or collapses is seeded again among rows of low density, twice at most, and then left out
    with a warning.

Several fits can share their passes (`candidates`): restarts of one model, or the sizes that a search compares. Those
that can't win any more leave.
"""
