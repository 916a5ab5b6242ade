"""The commands of `epochd`, one module for each noun: argument parsing and calls, nothing else."""
