"""First-party vision models, data sets and metrics. Importing the package costs no torch."""
