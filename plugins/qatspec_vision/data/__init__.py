"""Data sets: files on disk, augmentation, metrics."""
