"""Formats of simulated records, one module each. Chunks are written independently, in parallel processes."""
