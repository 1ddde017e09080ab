"""Which sequences run, and what goes into the next batch. Pure: no llama.cpp here."""
