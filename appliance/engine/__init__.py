"""Engines: the only importers of native inference libraries."""
