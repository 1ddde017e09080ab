"""The first set-up of a box: certificates, settings, the unit's drop-in. Only the command line uses it."""
