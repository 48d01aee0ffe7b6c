"""Synthetic patients with a known mechanism, and so with a known risk at every day and horizon.

`docs/simulation.md` describes the mechanism. `version1` is the first simulator, with which published results
were made.
"""
