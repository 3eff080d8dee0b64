"""Draw chest phantoms and walk the whole way with them."""
