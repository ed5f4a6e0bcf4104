"""Bias studies: skin tone, comparison of sets, declared experiments and audits. Imports are inside the modules."""
