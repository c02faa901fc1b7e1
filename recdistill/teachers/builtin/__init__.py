"""The built-in ranker, a large model in torchrec, and its training."""
