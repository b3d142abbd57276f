"""Horizon's presets and the marches bernoulli2 and bayes."""
