"""Starting trainings: several workers on this machine, a job of Slurm, a grid of recipes and seeds."""
