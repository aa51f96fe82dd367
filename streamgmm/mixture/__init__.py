"""The mathematics on one block of rows: no Dask, no files."""
