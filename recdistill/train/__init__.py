"""Island 1: what turns examples into a student's weights; the only room where torch is at home."""
