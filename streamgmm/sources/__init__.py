"""Where rows come from: arrays, tables, Zarr, Parquet, Dask collections, all cut into the tasks of a pass.

What is read is what pandas, pyarrow and xarray would read; where that can't be, an error says why, and what to do.

Tables
    pandas, polars, pyarrow, anything that gives Arrow data, and Parquet as a file, a folder, a pattern, a list of files
    or a `pyarrow.dataset`. A fitted model takes its features by name, in any order, and ignores other columns, in every
    partition of a Dask DataFrame too. An index that pandas has stored in Parquet is a feature only where it is named.
    Decimals, categories of numbers and lists of one length are numbers; times, texts and the like are errors.
Folders
    Rows are in the order of the files' names, with the numbers in these as numbers, as Dask has it; those of a list in
    the order of the list. Keys of folders (``year=2020``) are features only where they are named. Columns that only
    some files have are left out with a warning, or, where they are named, missing in the other files. Delta, Iceberg
    and Hudi tables are refused, since their logs say which files count: give the list of those.
Missing values
    NaN, infinities, nulls, masked entries, and what the attributes of a Zarr array name as missing (``_FillValue``,
    ``missing_value``). Packed values (``scale_factor``, ``add_offset``) are unpacked as xarray does it, by the NetCDF
    Climate and Forecast conventions 1.11, sections 2.5.1 and 8.1.
Zarr
    Formats 2 and 3, sharded or not, as an array, a group with one array of two dimensions, a path or a URL. A store
    must be there under the same name for every process: one that a worker can't see is an error, and not a block of
    fill values. That goes for arrays that Dask reads (``da.from_zarr``) as well.
Chunks and partitions
    Tasks are cut along the store's own pieces (chunks, shards, row groups), as many as a task may read, and a chunk of
    a Dask collection is a task fused with what makes it. One that is not as Dask says (its length, its width, its kind
    of array) is an error that names it, before compiled code sees it.

Nothing here knows Dask's graphs or mixtures: a source says how it is cut, and gives blocks of rows.
"""
