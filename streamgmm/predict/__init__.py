"""What a fitted mixture says of rows: labels, responsibilities, densities; in memory, lazily, or written to a store."""
