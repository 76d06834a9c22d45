"""Forward without what backward needs: many sequences as a tree of prefixes, one as a chain."""

from npnlp.inference.fused import FusedReader, make_reader
from npnlp.inference.reader import Reader, can_read, largest, read_one

__all__ = ["FusedReader", "Reader", "can_read", "largest", "make_reader", "read_one"]
