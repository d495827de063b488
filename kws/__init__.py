"""kws: keyword spotting that people can train, trust and ship. Importing it loads nothing."""

__version__ = "0.1.0"
