"""DeepLabV3+: semantic segmentation (Chen et al., ECCV 2018), in composable parts."""
