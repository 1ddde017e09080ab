"""The sync process's work beside answering: asking the registry, fetching what is to be installed, handing it on."""
