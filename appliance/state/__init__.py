"""The state folder as a whole: its format, its upgrade, and the way back."""
