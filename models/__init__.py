"""The demo models: how to get or make their files. Not part of the installed package."""
