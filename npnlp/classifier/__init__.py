"""What predicting needs: a model with its vocabularies, batches, evaluation and metrics."""
