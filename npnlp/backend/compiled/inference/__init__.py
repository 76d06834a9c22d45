"""Predicting for many sequences, compiled."""
