"""The march `qnn`: a context binary for Hexagon, compiled and simulated on x86."""
