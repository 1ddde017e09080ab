"""Where artefacts come from and go to: a registry over HTTP, or an OCI image layout in a folder, by one interface."""
