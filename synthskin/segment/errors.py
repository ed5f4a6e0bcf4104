"""The error of this package: one line, meant for the user."""


class SegmentError(RuntimeError):
    """A segmenter cannot be trained, loaded or used: what came, what is allowed, what to do."""
