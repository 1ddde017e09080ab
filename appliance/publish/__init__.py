"""Headquarters' side: from what was trained to a model folder that a box will take."""
