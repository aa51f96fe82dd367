"""What users call: the estimator, and the search for the number of components."""
