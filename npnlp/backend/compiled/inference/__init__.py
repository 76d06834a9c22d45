"""Prediction for many sequences, compiled."""
