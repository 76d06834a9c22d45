"""Forward without what backward needs: many sequences as a tree of prefixes, one as a chain."""

from npnlp.inference.reader import Reader, can_read, read_one

__all__ = ["Reader", "can_read", "read_one"]
