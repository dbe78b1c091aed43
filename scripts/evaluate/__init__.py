"""How right the program is: on real cells read by eye, and on drawings."""
