"""What is trained: the presets, each a corpus that can be trained by name."""
