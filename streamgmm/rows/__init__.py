"""Where rows come from and where results go: arrays, tables, Zarr, Parquet, Dask collections; the cut into tasks."""
