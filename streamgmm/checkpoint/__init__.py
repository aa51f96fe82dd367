"""What a fit has come to, kept in a folder after each pass, so that a run that is stopped goes on from there."""
