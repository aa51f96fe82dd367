"""The mathematics of a mixture on one block of rows: no Dask, no files.

A mixture is a softmax over linear functions of a feature vector. A covariance family names the products of a row's
values that its densities are made of: ``phi = (1, z, z_i z_j)`` with i <= j for full covariances, ``(1, z, z_j^2)`` for
diag, ``(1, z, |z|^2)`` for spherical, and ``(1, z)`` for tied ones, whose quadratic term is the same for all components
and left out. Log weight plus log-density of component k is then ``Theta_k @ phi(z)``, Theta the natural parameters.

An E-step on a block of rows is therefore a matrix product (the logits), a softmax (the responsibilities), and a second
matrix product: the sum over rows of responsibility times ``phi``. Those sums are the sufficient statistics, N_k, the
weighted sums and the weighted outer products: K x F numbers, with F = (D+1)(D+2)/2 for full, 2D+1 for diag, D+2 for
spherical and D+1 for tied covariances. Statistics of blocks add up, and the M-step (`m_step`) needs nothing else, but
for tied covariances the scatter of all rows, which is the same for every mixture and collected once.

Whitening
    A fit works in coordinates in which the data's mean is 0 and its covariance the identity, as far as the family
    allows: a whole matrix for full and tied, a scale per feature for diag, one scale for spherical. There the terms of
    the quadratic form have about the same size, and products may be formed without subtracting the means first.
Kernels
    Numba compiles three. Two use the fast products above, in float32 or in float64. The centered kernel subtracts each
    mean before it multiplies, so that nothing cancels, and takes about ten times as long.
The choice of the kernel
    Rounding gives a logit an error of about ``u |Theta| @ phi(|z|)``, with u the unit roundoff. Before each pass that
    bound is computed at rows as far out as each component reaches (`precision`): float32 products are used for float32
    rows where the error of a log-density stays under 1e-3 nats, float64 products where it stays under 1e-8, and the
    centered kernel where neither does: for components much tighter than the data, or far from its mean.
Regularisation
    ``reg_covar="auto"`` is a penalty on the log-likelihood, with the weight of 2 / sqrt(N) rows in each covariance,
    after Chen & Tan, "Inference for multivariate normal mixtures", Journal of Multivariate Analysis 100 (2009). Their
    target is the data's covariance; here it comes from within the components (`initialization.target`).
"""
