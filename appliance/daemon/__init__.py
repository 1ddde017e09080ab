"""The supervisor process: the one place that wires everything together, owns what runs, and stops it in order."""
