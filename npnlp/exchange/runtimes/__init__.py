"""One ONNX file in every runtime that is installed, each in a process of its own."""
