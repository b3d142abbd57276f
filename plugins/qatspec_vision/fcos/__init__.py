"""FCOS: a fully convolutional one-stage detector (Tian et al., ICCV 2019), in composable parts."""
