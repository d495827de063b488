"""`kws serve`: a Wyoming wake-word service for Home Assistant, satellites and whoever speaks the protocol."""
