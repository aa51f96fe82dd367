"""Files and folders, local or in an object store: URLs, retries, atomic output, what must not be overwritten.

Every result is an atomic output: it is written beside the place that was named and put there at the end, whole or not
at all. On a file system that is a rename. An object store has none: there the objects are copied by the store itself,
and the one without which the others can't be read comes last (``zarr.json``, or ``_SUCCESS`` in a folder of Parquet
files). Whether anything can be written at a place is tried before the work begins, and outputs that are, contain or lie
inside the rows, the model or the checkpoint are refused, with ``overwrite=True`` too.

Requests that a store answers with an error that may pass (503, a timeout, a connection that is cut) are sent again, a
bounded number of times. A store that changes between two passes is found out by a fingerprint of its files.
"""
