"""Inference Appliance: language models and classic machine learning over gRPC, on the machine that has the data."""

__version__ = "0.1.0"
