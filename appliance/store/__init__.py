"""The model store: content-addressed blobs in an OCI image layout, written by the sync process only."""
