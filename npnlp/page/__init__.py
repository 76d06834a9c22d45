"""A page to play with: one model in one HTML file that needs neither network nor server."""
