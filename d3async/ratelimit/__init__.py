"""How fast requests leave: slot, gate and token, and one limit for many processes."""
