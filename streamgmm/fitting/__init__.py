"""A whole fit: settings, plan, preparation, start, EM, report; and the selection among many."""
