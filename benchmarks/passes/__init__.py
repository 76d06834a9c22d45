"""What a benchmark measures, where it does not fit in the script itself."""
