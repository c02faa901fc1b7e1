"""Island 2: what turns a bundle into answers, with numpy, onnxruntime and faiss and without torch."""
