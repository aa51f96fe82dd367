"""What is done to single components: split, merge, grow, relocate, find rare ones.

EM changes a mixture little by little, and never moves a component from where there are too many to where there are too
few. These are the larger steps, found on a sample in memory, and kept only where the likelihood rises.

Split
    Two components are fitted to the rows of one, in the coordinates in which these rows are white, from several
    divisions of them into halves. What the two gain over the one is an estimate of what the split gains.
Merge
    Two components become one Gaussian with their moments: their statistics add up. What that costs is bounded by
    ``1/2 [(w_i + w_j) log|Sigma_ij| - w_i log|Sigma_i| - w_j log|Sigma_j|]`` (Runnalls, IEEE Transactions on Aerospace
    and Electronic Systems 43, 2007).
Grow
    From one component upwards, each time by the split that gains most (Verbeek, Vlassis & Krose, "Efficient greedy
    learning of Gaussian mixture models", Neural Computation 15, 2003). A mixture that has all its components can be
    grown again: a third of them are merged away first.
Relocate
    Two components that one can replace are merged, and the one set free splits another (after Ueda, Nakano, Ghahramani
    & Hinton, "SMEM algorithm for mixture models", Neural Computation 12, 2000).
Find rare ones
    A cluster of one row in a million is not in any sample. The first pass of EM over all rows keeps those of the lowest
    density, a bounded number. Where many of them lie close together a component is put there, in the place of one that
    another can replace; the mixtures with and without it go on as two candidates in the same passes, and the higher
    likelihood wins.
"""
