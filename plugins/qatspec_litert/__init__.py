"""The march `litert` and Arm's Ethos-U: a Program as an int8 TFLite file."""
