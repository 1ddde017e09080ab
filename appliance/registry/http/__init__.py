"""Registries over HTTP: the OCI distribution protocol 1.1, to pull from and to push to."""
