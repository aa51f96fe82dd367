"""Where a fit starts: the survey, the sample, seeds, and the search on the sample."""
