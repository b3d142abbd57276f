"""The march `openvino`: a compiled model for Intel CPUs, GPUs and NPUs."""
