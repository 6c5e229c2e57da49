"""Runs every pair of a data set with every method, so that nothing is lost and nothing lies."""
