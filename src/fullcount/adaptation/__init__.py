"""Fitting a trained encoder to what players do next."""
