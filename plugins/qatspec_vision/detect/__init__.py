"""What detectors without anchor boxes share: boxes, points, assignment, decoding."""
