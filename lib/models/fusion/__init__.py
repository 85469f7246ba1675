"""How template and search region are brought together."""
