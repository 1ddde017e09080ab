"""The sync process: the only writer of the store, and one day the only process that talks to a registry."""
