"""Bringing an artefact's blobs into the store: resumed where they broke off, verified while they stream."""
