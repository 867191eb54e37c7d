"""Helpers of the tests: data, files and comparisons that several test modules share."""
