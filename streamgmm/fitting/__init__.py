"""Fitting: the survey of the rows, the starts, EM, the rule that stops it."""
