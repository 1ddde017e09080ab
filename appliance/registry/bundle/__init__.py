"""Carrying releases from one place to another, whole and verified: onto a stick, from registry to registry."""
