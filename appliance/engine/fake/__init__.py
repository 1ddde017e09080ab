"""Engines without a model: what is above an engine is tested on them. The file of role "model" is a script in JSON."""
