"""An example of a third-party plugin: a model with an op of its own."""
