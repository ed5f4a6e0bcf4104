"""synthskin: labelled synthetic skin images. Importing it pulls in neither torch nor mitsuba."""

__version__ = "0.1.0"
