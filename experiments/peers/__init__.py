"""Models of other libraries (the extra ``peers``), for comparison with this project's."""
