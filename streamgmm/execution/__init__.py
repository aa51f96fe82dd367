"""How a pass over the rows is run: Dask graphs, the fixed reduction tree, threads, clusters that fail, memory."""
