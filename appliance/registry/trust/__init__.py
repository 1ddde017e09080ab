"""Which releases an organisation has signed: a TUF client whose metadata come out of the same registry as the models."""
