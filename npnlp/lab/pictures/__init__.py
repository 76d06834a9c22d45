"""The pictures of the experiments, each drawn from the CSV file that its experiment writes."""
