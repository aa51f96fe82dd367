"""The mathematics of a mixture on one block of rows: no Dask, no files."""
