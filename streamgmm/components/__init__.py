"""What is done to single components: split, merge, grow, relocate, find rare ones."""
