"""Island 1: what turns examples into a student's weights; the only room where torch is at home."""


def use_threads(count: int) -> None:
    """Sets how many threads torch computes with; 0 leaves it its own choice. Part of what makes two runs equal."""
    if count:
        import torch

        torch.set_num_threads(count)
