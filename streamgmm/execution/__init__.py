"""How a pass over the rows is run: Dask graphs, the fixed reduction tree, threads, clusters that fail, memory.

A pass is one reading of all rows. The partition cuts the rows into tasks; each task reads its rows piece by piece,
gives them to a block function (the E-step, the survey, a prediction), and keeps nothing of them but what that returns:
statistics, which add up. Reading and computing are one task, so that rows never travel between workers.

The tree
    Values are added up in groups of eight by the number of their task, never by the order in which they come. The
    partition follows from the data and `memory_limit` alone. So threads, processes and clusters of any size add up the
    same numbers in the same order, with one BLAS thread in each task, and a fit has the same bits on all of them. The
    M-step is computed in one place, the process that calls `fit`.
The memory bound
    A task reads at most 64 MiB of decoded rows, less under `memory_limit`, in pieces of 16 MiB, or of one chunk where
    the store's chunks are larger. A process needs, for each of its threads, a piece times four (the encoded piece, its
    decoded copies, and what is not yet given back of the piece before) and some sets of statistics, K x F numbers of
    8 bytes each; with a `memory_limit` it uses only as many threads as have room for their pieces. The number of rows
    does not come into it. `GaussianMixture.plan` says the numbers before anything runs, and a fit that would not do
    with the memory of a worker is refused.
Persisted rows
    With ``persist=True``, or where a cluster's workers have twice the room, the rows stay with the workers that have
    read them, and later passes run where the rows are. A worker that is lost costs another reading of its rows.
Failures
    Block functions are pure functions of rows and parameters: what a dead, frozen or unreachable worker had in hand is
    computed again, with the same bits, a bounded number of times. Parts of a pass that have come are never computed
    again; a checkpoint keeps them too.
"""
