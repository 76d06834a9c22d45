"""Training, evaluation, checkpoints and predictions."""
