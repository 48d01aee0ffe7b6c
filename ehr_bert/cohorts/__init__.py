"""Cohorts: who is looked at from which day on, what came of it, and the history up to that day."""
