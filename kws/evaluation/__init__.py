"""How good a model is: clips and hours scored, where errors lie, plots."""
