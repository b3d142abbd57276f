"""Ops that bound their operand: relu, relu6, hardtanh, clamp."""
