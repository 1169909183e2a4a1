"""Who walks there, while he or she walks: frame by frame, each frame at the same cost."""
