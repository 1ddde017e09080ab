"""ModelInfer without a thread for each call: small calls are sent by one thread and answered by another."""
