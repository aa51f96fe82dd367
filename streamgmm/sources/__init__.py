"""Where rows come from: arrays, tables, Zarr, Parquet, Dask collections, all cut into the tasks of a pass."""
