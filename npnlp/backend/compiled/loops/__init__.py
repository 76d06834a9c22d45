"""The recurrent passes, compiled."""
