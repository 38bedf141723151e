"""Boxes as supervision: constraints, pseudo-labels and the loss terms that hold a mask to them."""
