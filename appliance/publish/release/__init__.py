"""Signing and releasing: keys, TUF metadata, artefacts, and their way into a registry."""
