"""The `appliance` command: one file a command; speaks gRPC to the daemon, never opens the store behind its back."""
