"""Draw chest X-rays and run every step of wetread on them."""
