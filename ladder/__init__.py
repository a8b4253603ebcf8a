"""The ladder: every rung of the lecture trained on the same data, scored the same way, and put into one table."""
