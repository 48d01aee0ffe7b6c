"""Conversion of a diagnosis table to one row per patient, and the vocabulary of the codes."""
