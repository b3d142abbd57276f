"""Trackers of trainings: TensorBoard, MLflow and Weights & Biases."""
