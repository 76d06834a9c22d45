"""The black box: which number was first not finite, and the replay of that step."""
