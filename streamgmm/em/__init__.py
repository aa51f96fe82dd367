"""Expectation-maximisation: the iteration, its state, when it stops, and what makes it take fewer passes."""
