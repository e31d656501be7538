"""A real ``tritonserver`` process of our own, with its environment."""
