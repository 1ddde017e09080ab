"""What the operating system does for us: durable files, locks, processes that leave no orphans, fault points."""
