"""Launch trainings: local workers, Slurm jobs, and grids of recipes and seeds."""
