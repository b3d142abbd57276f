"""YOLO without anchor boxes, after YOLOX (Ge et al., 2021), in composable parts."""
