"""The device file: written from a bundle, read with onnxruntime alone.

It knows nothing of training or of the registry.
"""
