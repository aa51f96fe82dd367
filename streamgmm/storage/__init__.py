"""Files and folders, local or in an object store: URLs, retries, atomic output, what must not be overwritten."""
