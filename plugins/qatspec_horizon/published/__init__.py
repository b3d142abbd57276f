"""Nets with published times on Horizon's chips, and the program that fits the model of time:

python -m qatspec_horizon.published
"""
