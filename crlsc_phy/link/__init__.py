"""Links from end to end, as a sweep runs them."""
