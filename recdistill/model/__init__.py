"""What a student computes, without torch: its arithmetic in numpy, its graphs in ONNX, and the sessions that run them.

It knows nothing of files, logs or training.
"""
