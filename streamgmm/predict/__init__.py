"""What a fitted mixture says of rows: labels, responsibilities, densities; in memory, lazily, or written to a store.

A scorer gives all that is asked of a row from one evaluation; an output stores it next to the columns that are kept of
the rows. An output of many parts grows in a folder beside its place, part by part, each with a mark when it is
complete: a run that is stopped is gone on with from there, and ends with the bytes of a run that nothing stopped.
"""
