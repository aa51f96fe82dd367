"""What a fit has come to, kept in a folder after each pass, so that a run that is stopped goes on from there.

A folder, local or in an object store, holds what the survey gave with the sample, where the fit stands after each of
the last passes, and, each minute of a long pass, what its tasks have given so far. Whatever ends the process, the same
call goes on from there, and ends with the bits of a run that nothing stopped: the partition and the tree are the same,
and every random choice follows from the seed.

What it goes on from
    A checkpoint of other rows or other settings is refused, by the name of what differs; those that change no step,
    `max_iter` and `persist`, may differ. Rows are told apart by the sizes and times, or ETags, of their files, rows in
    memory by their values, Dask collections by the names that Dask gives them. A fit that has ended makes room for the
    next, so that a job of every night can keep its folder.
Files
    Each is a safetensors file: arrays and text, and no code. Its name carries the checksum of what it holds, so that
    one that is damaged, or was not written to its end, is found out and left out with a warning, and the one before it
    taken. There is no pointer to the latest that could be torn. A local file is an atomic output, written beside its
    place and renamed. The rows of the sample are in there; credentials are not.
One run at a time
    The run that has the folder says so in a lock, with a heartbeat every 30 seconds. Another one is refused while it
    lives. A run that died on the same machine makes room at once, one elsewhere after five minutes without a heartbeat.
"""
