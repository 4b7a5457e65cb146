"""The parts of `train_tiny_vlm.py`."""
