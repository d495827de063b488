"""One's own words, from text and from takes: spoken, mixed, learned, measured."""
