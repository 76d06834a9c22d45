"""One vector of each sequence, from the states of all its steps."""
