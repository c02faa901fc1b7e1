"""Teachers that take tensors: how impressions become arrays, and a model in an ONNX file."""
