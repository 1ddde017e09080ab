"""Simulations of many boxes: see scripts/sim_fleet."""
