"""Launch training runs: local workers, Slurm jobs, and grids of recipes and seeds."""
