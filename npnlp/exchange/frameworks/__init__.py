"""Models of Keras 3 and Flax: what their files hold, under this project's names, and back.

    cells.py, table.py      where each gate stands in each framework's arrays: the one table
    parts.py                an embedding, recurrent layers, linear layers: a model in pieces
    keras_*.py, hdf5.py     the archive, its configuration, its weights; only hdf5.py imports h5py
    flax_*.py               parameters by path, in msgpack or safetensors

Neither Keras nor Flax is imported. Nothing that a file says is run.
"""
