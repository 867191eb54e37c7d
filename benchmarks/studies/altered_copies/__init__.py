"""Chest X-rays altered so that only a part of each can be seen, and methods trained anew on each version."""
