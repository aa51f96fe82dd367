"""Where a fit starts: the survey, the sample, seeds, and the search on the sample.

The survey is the first pass. It counts the rows, finds missing values and weights that can't be, and gives the mean and
the covariance that whitening needs, added up pairwise as by Chan, Golub & LeVeque (1983). The same pass draws the
sample: the rows with the smallest keys, so that parts of it can be drawn in any task and put together in any order.

Sample by value
    The key is a hash of a row's values, and equal rows are one row with the sum of their weights. Neither the order of
    the rows nor their chunks make a difference. If all rows fit into 128 MiB, or into an eighth of `memory_limit` where
    that is less, they are the sample, and nothing is read again.
Sample by place
    Where few different values stand for many rows, a hash would take all rows of a value or none. There the key is a
    hash of the row's index (the finaliser of SplitMix64: Steele, Lea & Flood, OOPSLA 2014), turned into an exponential
    variable where rows have weights (Efraimidis & Spirakis, Information Processing Letters 97, 2006).

The likelihood of a mixture has many optima, and where one seed ends is chance. So ``init_params="sample"`` searches for
the best one on the sample in memory (`search`): many seeds, drawn by k-means++ and k-means, run for a few EM steps, and
the worse leave; another mixture is grown from one component by splits; the best are grown again from fewer components,
and single components relocated (`components`), until that gains nothing more. Where the first fits agree, little more
is tried. Fits between which the sample can't decide go on together on the full data, in shared passes. How many rows
and steps all of this may take follows from the size of the model and of the data (`budget`). A search on a sample need
not find the best of many optima that are nearly as good: `n_init` searches more often.

The search also tells how tight clusters are, and so the target towards which ``reg_covar="auto"`` draws covariances:
the harmonic mean of those within the components (`target`).
"""
