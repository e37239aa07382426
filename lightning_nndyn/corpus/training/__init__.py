"""Trains one run: its data, its batches, its network, its loop, and what is recorded on the way."""
