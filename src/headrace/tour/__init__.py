"""The tour: a small shop written by hand, its simulated shoppers, and what is shown of a line that serves them."""
