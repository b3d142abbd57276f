"""The march `onnxruntime`: runs a compiled program on any CPU today."""
