"""From a diagnosis table to one row a patient, and the vocabulary of its codes."""
