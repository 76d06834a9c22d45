"""A device that is not there: what CuPy 14.2 and CUDA refuse in a capture it refuses, and replays.

``memory`` has CuPy's memory pools, ``arrays`` arrays whose operations are written down in a
capture, ``cuda`` streams and graphs, and ``module`` stands in for the ``cupy`` module. Every
refusal names the file of CuPy's source that it follows (14.2.0; the paths begin at ``cupy``).
"""
